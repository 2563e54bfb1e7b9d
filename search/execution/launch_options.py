"""How one driver runs a study; nothing here changes what the study is."""

from collections.abc import Callable
from dataclasses import dataclass

from search.plans.limits.budget import Budget


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
