"""Budgets say when a study is finished: after so many trials, epochs or GPU hours, or before."""

import math
from dataclasses import dataclass
from typing import Any

from trainables.errors import UserError

# What a trial reports of itself, cumulative over restarts.
EPOCHS_METRIC = "training/epochs"
GPU_HOURS_METRIC = "training/gpu_hours"

_OPTIONS = {"trials": "--trials", "epochs": "--epochs", "gpu_hours": "--gpu-hours"}
_WORDS = {"trials": "trials", "epochs": "epochs", "gpu_hours": "GPU hours"}
_METRICS = {"trials": None, "epochs": EPOCHS_METRIC, "gpu_hours": GPU_HOURS_METRIC}


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Holds how much a study may use, in exactly one of three units.

    trials: how many are run, early-stopped and failed ones included.
    epochs: passes over the training split, of all trials, pre-training included.
    gpu_hours: hours of a whole GPU, of all trials.
    plateau: a study ends earlier, where the rest would add less than this share to the hypervolume;
      None where it does not. See `search.plans.limits.plateau`.

    Trials that are at work when the last of it is used run to their ends.

    Raises `UserError` for none or several of them, or for an amount that is not above 0.
    """

    trials: int | None = None
    epochs: float | None = None
    gpu_hours: float | None = None
    plateau: float | None = None

    def __post_init__(self) -> None:
        given = self._amounts()
        if len(given) != 1:
            raise UserError(
                f"a study must have one budget, got "
                f"{' and '.join(_OPTIONS[n] for n in given) or 'none'}; "
                f"give one of {', '.join(_OPTIONS.values())}"
            )
        ((unit, value),) = given.items()
        least = "at least 1" if unit == "trials" else "above 0 and finite"
        if not (value >= 1 if unit == "trials" else 0 < value < math.inf):
            remedy = "raise it" if math.isfinite(value) else "`search extend` adds more"
            raise UserError(f"`{_OPTIONS[unit]}` must be {least}, got {value:g}; {remedy}")

    @property
    def unit(self) -> str:
        """The one of `trials`, `epochs` and `gpu_hours` that is given."""
        (unit,) = self._amounts()
        return unit

    @property
    def option(self) -> str:
        """The command-line option that gives it."""
        return _OPTIONS[self.unit]

    @property
    def metric(self) -> str | None:
        """Where a trial says how much it has used; None where trials are counted."""
        return _METRICS[self.unit]

    @property
    def amount(self) -> float:
        """How much, in its own unit."""
        return float(self._amounts()[self.unit])

    @property
    def text(self) -> str:
        """The budget in words: `18 trials`, `200 epochs`, `1.5 GPU hours or a plateau (2 %)`."""
        until = "" if self.plateau is None else f" or a plateau ({100 * self.plateau:g} %)"
        words = _WORDS[self.unit]
        words = words.removesuffix("s") if self.amount == 1 else words
        return f"{self.amount:g} {words}{until}"

    def raised(self, more: "Budget") -> "Budget":
        """Return the sum, with the plateau of `more`.

        Raises `UserError` where the two count in different units.
        """
        if self.unit != more.unit:
            raise UserError(
                f"a study of {self.text} can be extended in its own unit, got {more.text}; use "
                f"{_OPTIONS[self.unit]}"
            )
        amount = self._amounts()[self.unit] + more._amounts()[self.unit]
        return Budget(**{self.unit: amount}, plateau=more.plateau)

    def to_json(self) -> dict[str, Any]:
        """Return the unit, the amount and the plateau, as the constructor takes them."""
        until = {} if self.plateau is None else {"plateau": self.plateau}
        return {**self._amounts(), **until}

    def _amounts(self) -> dict[str, Any]:
        return {unit: v for unit in _OPTIONS if (v := getattr(self, unit)) is not None}


def no_gpu_for(budget: Budget) -> str:
    """Return the message where a budget of GPU hours can never be used up."""
    return (
        f"`--gpu-hours` needs a GPU, got {budget.text} where Ray has none; use --trials or --epochs"
    )
