"""When a study is finished: after so many trials, epochs or GPU hours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from trainables.errors import UserError

# What a trial reports of itself, cumulative over restarts.
EPOCHS_METRIC = "training/epochs"
GPU_HOURS_METRIC = "training/gpu_hours"

_OPTIONS = {"trials": "--trials", "epochs": "--epochs", "gpu_hours": "--gpu-hours"}


def no_gpu_for(budget: "Budget") -> str:
    """The message where a budget of GPU hours can never be used up."""
    return (
        f"`--gpu-hours` needs a GPU, got {budget.text} where Ray has none; use --trials or --epochs"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Exactly one of the three is given.

    trials: how many are run, early-stopped and failed ones included.
    epochs: passes over the training split, summed over all trials, pre-training included. A
      dense model that trials share counts for each of them.
    gpu_hours: hours of a whole GPU, summed over all trials.

    By epochs or hours, trials are begun while there is some left and then run to their ends, so
    that a study may use more by what is at work at that moment.

    Raises `UserError` for none or several of them, or for an amount that is not above 0.
    """

    trials: int | None = None
    epochs: float | None = None
    gpu_hours: float | None = None

    def __post_init__(self) -> None:
        given = {n: v for n in _OPTIONS if (v := getattr(self, n)) is not None}
        if len(given) != 1:
            raise UserError(
                f"a study must have one budget, got "
                f"{' and '.join(_OPTIONS[n] for n in given) or 'none'}; "
                f"give one of {', '.join(_OPTIONS.values())}"
            )
        ((name, value),) = given.items()
        least = "at least 1" if name == "trials" else "above 0 and finite"
        if not (value >= 1 if name == "trials" else 0 < value < math.inf):
            remedy = "raise it" if math.isfinite(value) else "`search extend` adds more"
            raise UserError(f"`{_OPTIONS[name]}` must be {least}, got {value:g}; {remedy}")

    @property
    def metric(self) -> str | None:
        """Where a trial says how much it has used; None where trials are counted."""
        if self.epochs is not None:
            return EPOCHS_METRIC
        return GPU_HOURS_METRIC if self.gpu_hours is not None else None

    @property
    def amount(self) -> float:
        """In its own unit."""
        return float(next(v for n in _OPTIONS if (v := getattr(self, n)) is not None))

    @property
    def text(self) -> str:
        """`18 trials`, `200 epochs`, `1.5 GPU hours`."""
        unit = next(n for n in _OPTIONS if getattr(self, n) is not None)
        words = {"trials": "trials", "epochs": "epochs", "gpu_hours": "GPU hours"}
        return f"{self.amount:g} {words[unit]}"

    def raised(self, more: "Budget") -> "Budget":
        """The sum. Raises `UserError` where the two count in different units."""
        mine, theirs = self.to_json(), more.to_json()
        if mine.keys() != theirs.keys():
            ((name, _),) = mine.items()
            raise UserError(
                f"a study of {self.text} can be extended in its own unit, got {more.text}; use "
                f"{_OPTIONS[name]}"
            )
        return Budget(**{name: value + theirs[name] for name, value in mine.items()})

    def to_json(self) -> dict[str, Any]:
        return {n: v for n in _OPTIONS if (v := getattr(self, n)) is not None}

    @classmethod
    def from_json(cls, known: Mapping[str, Any]) -> Self:
        """Raises `UserError` for what `to_json` did not write."""
        unknown = set(known) - set(_OPTIONS)
        if unknown or not all(isinstance(value, int | float) for value in known.values()):
            raise UserError(
                f"a recorded budget must hold one of {', '.join(_OPTIONS)}, got {dict(known)}; "
                "restore the study.json from a backup"
            )
        return cls(**known)
