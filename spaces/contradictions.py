"""Refuses settings, given or default, that contradict a trial's method."""

from spaces.budgets import budget_for
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.registry.lookup import METHOD
from trainables.registry.structures import CHANNEL, group_sizes, require_channel_allocation
from trainables.sparsity.schedule import rewind_step


def require_sense(config: TrialConfig) -> None:
    """Raise `UserError` for settings that contradict the trial's method."""
    method = METHOD.find(config.method)
    method.require_structure(config.sparsity.structure)
    if not method.has_target and config.sparsity.target > 0:
        raise UserError(
            f"`{config.method}` keeps every weight: `sparsity.target` must be 0 for it, got "
            f"{config.sparsity.target}; name a sparse method, e.g. disparse-static"
        )
    if method.needs_pretraining and config.training.pretrain_steps < 1:
        raise UserError(
            f"`training.pretrain_steps` must be at least 1 for {config.method}, which starts from "
            f"a trained model, got {config.training.pretrain_steps}; disparse-static prunes an "
            "untrained one"
        )
    if method.sparse and config.sparsity.structure == CHANNEL:
        require_channel_allocation(config.sparsity.allocation)
    grouped = group_sizes(config.sparsity.structure) is not None
    if method.regrows and method.votes and grouped and config.regrowth.budget == "published":
        raise UserError(
            f"`regrowth.budget` must be exact for structure {config.sparsity.structure}, got "
            "published, whose union would keep more than N of M weights; leave it out"
        )
    if method.rewinds:
        _require_a_ticket(config)


def _require_a_ticket(config: TrialConfig) -> None:
    """Raise `UserError` unless the settings of a method that rewinds fit its dense run.

    The method needs its own schedule, and a level must not be longer than what it repeats.
    """
    sparsity, training = config.sparsity, config.training
    method = METHOD.find(config.method)
    schedule = "levels" if method.prunes == "levels" else "one-shot"
    if sparsity.schedule != schedule or (schedule == "one-shot" and sparsity.start_fraction > 0):
        raise UserError(
            f"`{config.method}` needs `sparsity.schedule` = {schedule} from the start, got "
            f"{sparsity.schedule} from {sparsity.start_fraction}; use imp for other schedules"
        )
    levels = budget_for(method, config.flat()).levels
    longest = -(-training.steps // levels)
    repeated = training.pretrain_steps - rewind_step(
        sparsity.rewind_fraction, training.pretrain_steps
    )
    if longest > repeated:
        raise UserError(
            f"each of the {levels} levels of {config.method} repeats the dense run from step k, so "
            f"`training.steps` / {levels} must be at most {repeated}, the dense run's steps after "
            f"k, got {longest}; raise `training.pretrain_steps` or leave it out"
        )
