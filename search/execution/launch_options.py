"""How one driver runs a study; nothing here changes what the study is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search.plans.limits.budget import Budget, no_gpu_for
from search.plans.plan import Plan
from search.record.files.study_folder import again
from trainables.errors import UserError
from trainables.training.watching.watchdog import check_time_limit


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """The options of one launch.

    trainable: the Tune trainable; None is `trainables.tune.DiSparseTrainable`.
    concurrency: trials at once; None for one per CPU, or as many as GPUs have room for.
    gpus_per_trial: the part of one GPU that a trial gets; None for what a measurement says fits.
    trial_time_limit: seconds within which a trial has to report, and again after every report.
    check_data: whether data and model are opened once before anything runs.
    data: the digest of the trials' data where they are not opened; None for what is recorded.
    runner: what runs the trials; None is `search.execution.launch.run_trials`, which has Ray do it.
    more: by how much to raise the study's budget; until: only at which plateau it is to end.
    confirm: at how many fresh seeds to train the front again, instead of new trials.
    """

    storage: str = "runs"
    tracking_uri: str | None = None
    study_storage: str | None = None
    ray_address: str = "local"
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    trial_time_limit: float | None = None
    quiet: bool = False
    report: bool = True
    trainable: type | None = None
    check_data: bool = True
    data: str | None = None
    runner: Callable[..., None] | None = None
    more: Budget | None = None
    until: float | None = None
    confirm: int | None = None

    @property
    def extends(self) -> bool:
        """Whether the study is to go on beyond where it was to end."""
        return self.more is not None or self.until is not None

    @property
    def unrecorded(self) -> tuple[str, ...]:
        """The options that the next launch has to be given again: no study records them."""
        given = {
            "--ray-address": None if self.ray_address == "local" else self.ray_address,
            "--concurrency": self.concurrency,
            "--gpus-per-trial": self.gpus_per_trial,
            "--trial-time-limit": self.trial_time_limit,
        }
        named = [(name, f"{value}") for name, value in given.items() if value is not None]
        return tuple(word for option in named for word in option)

    def resume(self, study: str) -> str:
        """Return the command that goes on with a study as this launch runs it."""
        return again("resume", study, Path(self.storage).expanduser(), *self.unrecorded)


def check_options(plan: Plan, launch: Launch) -> None:
    """Raise `UserError` for options that no study can have, or not this one here."""
    if launch.concurrency is not None and launch.concurrency < 1:
        raise UserError(f"`--concurrency` must be at least 1, got {launch.concurrency}; raise it")
    if launch.gpus_per_trial is not None and not 0.01 <= launch.gpus_per_trial <= 1:
        raise UserError(
            f"`--gpus-per-trial` must be in [0.01, 1], got {launch.gpus_per_trial:g}; 0.25 has "
            "four trials share a GPU, 1 gives each its own"
        )
    if launch.confirm is not None and launch.confirm < 2:
        raise UserError(
            f"`--seeds` must be at least 2, got {launch.confirm}; one seed has no interval, and 5 "
            "give a fair one"
        )
    check_time_limit(launch.trial_time_limit)
    if plan.budget.gpu_hours is not None and launch.ray_address == "local":
        import torch

        if not torch.cuda.is_available():
            raise UserError(no_gpu_for(plan.budget))
