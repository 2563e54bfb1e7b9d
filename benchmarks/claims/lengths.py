"""How a system's trials divide their steps, and among how many reports each may choose."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.claims.protocol import Setting
from spaces.presets import DENSE_METHODS, trial_config
from trainables.config import TrialConfig
from trainables.sparsity.schedule import prune_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Steps of one trial.

    pretrain_steps: of the dense run, where the system starts from one.
    steps: of training proper. levels: how they divide, of a method that prunes in levels.
    reports, eligible: how many a trial gives, and how many come after its last pruning.
    """

    pretrain_steps: int
    steps: int
    levels: tuple[int, ...]
    reports: int
    eligible: int


def lengths_of(config: TrialConfig) -> Lengths:
    """Reports are evenly spaced over training proper, the last at its end; a sparse trial's best
    one is chosen among those after the last pruning (docs/decisions/0004)."""
    steps, reports = config.training.steps, config.training.num_reports
    dense = config.method in DENSE_METHODS
    pruned = prune_steps(config.sparsity, steps)
    at = [round(index * steps / reports) for index in range(1, reports + 1)]
    levels: tuple[int, ...] = ()
    if not dense and config.sparsity.schedule == "levels":
        levels = tuple(end - start for start, end in pairwise((*pruned, steps)))
    return Lengths(
        pretrain_steps=config.training.pretrain_steps,
        steps=steps,
        levels=levels,
        reports=reports,
        eligible=sum(dense or step > pruned[-1] for step in at),
    )


def trial_lengths(
    system: str,
    setting: Setting,
    sparsity: float | None,
    total_steps: int,
    overrides: Mapping[str, Any],
) -> Lengths:
    """Of a trial of the studies. Raises `UserError` for settings that no trial can have."""
    config = trial_config(
        system,
        setting.dataset,
        setting.preset,
        tasks=setting.tasks,
        sparsity=sparsity,
        total_steps=total_steps,
        overrides=overrides,
    )
    return lengths_of(config)
