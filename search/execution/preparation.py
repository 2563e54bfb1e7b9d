"""Checks what a user can get wrong about a study, before it begins or goes on. No Ray here."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.execution.launch_options import Launch
from search.plans.plan import Plan
from search.record.files.study_file import (
    Addresses,
    check_same_study,
    find_addresses,
    raised_budget,
)
from search.record.files.study_folder import StudyFiles
from trainables.errors import UserError
from trainables.registry.lookup import METHOD
from trainables.sweep.display import preparation
from trainables.user_code import running

if TYPE_CHECKING:  # loads optuna
    from search.record.warm_start import WarmTrial
    from search.samplers.prior import Prior


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A study that may begin or go on.

    plan: with the budget that the study was extended to. known: its `study.json`; empty if it is
    new. num_seeds: at how many fresh seeds the front is to be trained again; None for new trials.
    warm, prior: what it learns from other studies. data: the digest of its data.
    """

    plan: Plan
    launch: Launch
    files: StudyFiles
    known: Mapping[str, Any]
    addresses: Addresses
    num_seeds: int | None
    warm: "Sequence[WarmTrial]"
    prior: "Prior | None"
    data: str | None


def prepare(plan: Plan, launch: Launch, files: StudyFiles, known: Mapping[str, Any]) -> Prepared:
    """Check a study whose lock is held, and open its data. Raises `UserError`."""
    from search.record.warm_start import prior_of, warm_trials

    check_same_study(plan, known, files, launch.study_storage)
    addresses = find_addresses(
        files, known, tracking_uri=launch.tracking_uri, study_storage=launch.study_storage
    )
    # The command that began it also continues what was extended since.
    plan = raised_budget(plan, known, launch.more, launch.until)
    if plan.data_root is None and known:
        plan = dataclasses.replace(plan, data_root=known["data_root"])
    # An interrupted confirmation is resumed like anything else.
    num_seeds = launch.confirm or (None if launch.extends else known.get("confirm"))
    trains = launch.extends or num_seeds is not None or not known.get("finished")
    # Before data are prepared, which may take an hour.
    warm = warm_trials(plan, files, begun=bool(known))
    prior = prior_of(plan, files, begun=bool(known))
    found = launch.data
    if launch.check_data and trains:
        found = check_first_trial(plan, launch.quiet)
    data = found or known.get("data")
    _check_same_data(plan, known, data)
    return Prepared(
        plan=plan,
        launch=launch,
        files=files,
        known=known,
        addresses=addresses,
        num_seeds=num_seeds,
        warm=warm,
        prior=prior,
        data=data,
    )


def check_first_trial(plan: Plan, quiet: bool) -> str:
    """Open the data and build the model once: their faults are the user's, in every trial.

    Returns a digest of the data's content.
    """
    from trainables.data.catalogue import open_dataset
    from trainables.models.catalogue import build_model, service_of
    from trainables.shipping.trial_costs import deployment_costs
    from trainables.sparsity.masking.masks import MaskRegistry
    from trainables.sparsity.structures.catalogue import build_structure, use_structure

    config = plan.sample_config()
    dataset = open_dataset(config.data, None if quiet else preparation(f"study {plan.study}"))
    num_channels = {task: dataset.num_channels(task) for task in config.data.tasks}
    model = build_model(config.model, num_channels, config.seed)
    deployment_costs(config)
    if METHOD.find(config.method).sparse:
        with running({f"model {config.model.name!r}": model}):
            registry = MaskRegistry(model, service_of(config.model, model, config.data.size))
            use_structure(config.sparsity.structure, registry, model, config.data.size)
            build_structure(config.sparsity, registry, {})
    return dataset.digest()


def _check_same_data(plan: Plan, known: Mapping[str, Any], found: str | None) -> None:
    """Raise `UserError` where `known`, the study's `study.json`, has another digest of its data."""
    if known.get("data", found) not in (found, None):
        raise UserError(
            f"the data of {plan.study!r} must stay the same, got others in "
            f"{plan.data_root or 'the default folder'}; name the --data-root it began with, or "
            "give a new study another --name"
        )
