"""Says what to do about a loss or a score that is not finite."""

from trainables.config import TrialConfig
from trainables.errors import Failure


class Diverged(Failure):
    """Reports that the training loss, or a score, became NaN or infinite."""


def diverged(
    error: FloatingPointError, config: TrialConfig, at: str, *, untrained: bool
) -> Diverged:
    """Return the failure that says what to lower, or, before any step, where to look.

    at: the step, in words. untrained: whether no step was taken yet, so that no learning rate can
    be the reason.
    """
    remedy = "lower optimiser.learning_rate or set optimiser.clip_norm"
    if untrained:
        remedy = (
            "no step was taken yet, so the learning rate is not the reason: look at the losses "
            "and the targets"
        )
        if config.training.precision not in ("auto", "fp32"):
            remedy += ", and train in training.precision=fp32"
    return Diverged(
        f"{error} at {at} "
        f"({config.method}, learning rate {config.optimiser.learning_rate:g}); {remedy}"
    )
