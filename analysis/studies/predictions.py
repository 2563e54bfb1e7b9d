"""Read what trials predicted for a few test frames, which are the same for all trials of a study.

It is read from `runs/NAME/trials/<NNNNN>/predictions.npz` (`trainables.training.test_frames`). A
trial whose file is missing or unreadable is left out, and so is one of other frames than the first:
pictures illustrate a study, but decide nothing.
"""

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.studies.trials import Study, Trial
from trainables.registry.tasks import TARGET_KINDS

FILE = "predictions.npz"
_OTHER_CONTENT = (ValueError, KeyError, TypeError, AttributeError)
_VECTOR_SCALE, _UNKNOWN_VECTOR = 127.0, -128


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMaps:
    """Hold one task's predictions and truth for N frames, as `trainables.pictures.maps` draws them.

    prediction, truth: (N, h, w) of class ids (255 unlabelled) or values, or (N, h, w, 3) of unit
    vectors; NaN where unknown.
    """

    kind: str
    num_classes: int
    prediction: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialPredictions:
    """Hold a trial's predictions. image: uint8 (N, h, w, 3). tasks: in the order of the study."""

    trial: Trial
    frames: tuple[str, ...]
    image: np.ndarray
    tasks: Mapping[str, TaskMaps]
    depth_kind: str
    class_names: tuple[str, ...]
    class_colours: tuple[str, ...]


def read_predictions(study: Study, trials: Iterable[Trial]) -> tuple[TrialPredictions, ...]:
    """Read the predictions of those of `trials` that left any, in their order."""
    found: list[TrialPredictions] = []
    for trial in trials:
        path = study.directory / "trials" / f"{trial.number:05d}" / FILE
        try:
            read = _read(path, trial)
        except (OSError, EOFError, zipfile.BadZipFile, *_OTHER_CONTENT):
            continue
        if not found or _of_same_frames(read, found[0]):
            found.append(read)
    return tuple(found)


def _read(path: Path, trial: Trial) -> TrialPredictions:
    # Opened here, because NumPy leaves a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        about: dict[str, Any] = json.loads(str(arrays["about"]))
        image = arrays["image"]
        tasks = {}
        for name, kind in about["kinds"].items():
            if kind not in TARGET_KINDS:
                raise ValueError(f"unknown kind {kind!r}")
            prediction, truth = (
                _maps(kind, arrays[f"{part}/{name}"]) for part in ("prediction", "truth")
            )
            if not prediction.shape[:3] == truth.shape[:3] == image.shape[:3]:
                raise ValueError(f"maps of {name} do not fit the images")
            count = int(about["num_classes"][name])
            tasks[str(name)] = TaskMaps(
                kind=kind, num_classes=count, prediction=prediction, truth=truth
            )
        return TrialPredictions(
            trial=trial,
            frames=tuple(str(name) for name in arrays["frames"]),
            image=image,
            tasks=tasks,
            depth_kind=str(about["depth_kind"]),
            class_names=tuple(about["class_names"]),
            class_colours=tuple(about["class_colours"]),
        )


def _maps(kind: str, stored: np.ndarray) -> np.ndarray:
    if kind == "vectors" and stored.dtype == np.int8:
        vectors = stored.astype(np.float32) / _VECTOR_SCALE
        vectors[(stored == _UNKNOWN_VECTOR).any(axis=-1)] = np.nan
        return vectors
    return stored if stored.dtype.kind in "iu" else stored.astype(np.float32)


def _of_same_frames(one: TrialPredictions, other: TrialPredictions) -> bool:
    return one.frames == other.frames and one.image.shape == other.image.shape
