"""How one driver runs a study; nothing here changes what the study is."""

from dataclasses import dataclass

from search.plans.budget import Budget


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """The options of one launch.

    trainable: the Tune trainable; None is `trainables.tune.DiSparseTrainable`.
    trial_time_limit: seconds within which a trial has to report, and again after every report.
    check_data: whether data and model are opened once before anything runs.
    more: by how much to raise the study's budget; until: only at which plateau it is to end.
    confirm: at how many fresh seeds to train the front again, instead of new trials.
    """

    storage: str = "runs"
    tracking_uri: str | None = None
    study_storage: str | None = None
    ray_address: str = "local"
    concurrency: int | None = None
    trial_time_limit: float | None = None
    quiet: bool = False
    report: bool = True
    trainable: type | None = None
    check_data: bool = True
    more: Budget | None = None
    until: float | None = None
    confirm: int | None = None

    @property
    def extends(self) -> bool:
        """Whether the study is to go on beyond where it was to end."""
        return self.more is not None or self.until is not None
