"""Read what trials left behind about their masks: kept weights by layer, agreement among tasks.

It is read from `runs/NAME/trials/<NNNNN>/summary.json`. A trial whose summary is missing or
unreadable is left out: masks illustrate a study, but decide nothing.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.studies.trials import Study, Trial


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """Hold one prunable tensor at the end of a trial. `owner` is "shared" or a task."""

    name: str
    owner: str
    kept: int
    total: int

    @property
    def density(self) -> float:
        """Return the share of the layer that is kept; NaN for an empty layer."""
        return self.kept / self.total if self.total else float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialMasks:
    """Hold a trial's layers in the model's order.

    agreement: the intersection over union of the tasks' votes, 0 to 1, by shared layer in the
    model's order; empty for methods without votes.
    """

    trial: Trial
    layers: tuple[Layer, ...]
    agreement: Mapping[str, float]

    @property
    def density(self) -> float:
        """Return the share of all weights that is kept; NaN without layers."""
        total = sum(layer.total for layer in self.layers)
        return sum(layer.kept for layer in self.layers) / total if total else float("nan")


def read_masks(study: Study, trials: Iterable[Trial]) -> tuple[TrialMasks, ...]:
    """Read the masks of those of `trials` that left a readable summary."""
    found = []
    for trial in trials:
        masks = read_summary(study.directory, trial).get("masks")
        if not isinstance(masks, Mapping):
            continue
        layers = _layers(masks.get("layers"))
        if layers:
            agreement = _agreement(masks.get("agreement"), [layer.name for layer in layers])
            found.append(TrialMasks(trial=trial, layers=layers, agreement=agreement))
    return tuple(found)


def read_summary(directory: Path, trial: Trial) -> Mapping[str, Any]:
    """Read a trial's `summary.json`; empty where there is none to read."""
    path = directory / "trials" / f"{trial.number:05d}" / "summary.json"
    try:
        summary = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, Mapping) else {}


def failure_reason(study: Study, trial: Trial) -> str:
    """Say why a trial failed: its record, its summary, or the last line of error.txt."""
    if trial.reason:
        return trial.reason
    summary = read_summary(study.directory, trial)
    for key in ("reason", "error"):
        if isinstance(summary.get(key), str):
            return str(summary[key])
    path = study.directory / "trials" / f"{trial.number:05d}" / "error.txt"
    try:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    except OSError:
        return "no reason recorded"
    return next((line for line in reversed(lines) if line), "no reason recorded")


def _layers(values: Any) -> tuple[Layer, ...]:
    if not isinstance(values, Mapping):
        return ()
    layers = []
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(value.get("total"), int):
            owner, kept = str(value.get("owner", "shared")), int(value.get("kept", 0))
            layers.append(Layer(name=str(name), owner=owner, kept=kept, total=value["total"]))
    return tuple(layers)


def _agreement(values: Any, order: list[str]) -> dict[str, float]:
    if not isinstance(values, Mapping):
        return {}
    place = {name: index for index, name in enumerate(order)}
    finite = {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    return dict(sorted(finite.items(), key=lambda item: place.get(item[0], len(place))))
