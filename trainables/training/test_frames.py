"""Keeps a trial's predictions of a few test frames, from which pictures are drawn without torch.

The frames are evenly spaced over the test split, so that all trials of a study predict the same.

`predictions.npz`, N frames of (h, w) pixels, every k-th row and column of the evaluated ones:
  about         JSON text: data set, kinds of the tasks, names and colours of the classes, step k
  frames        their names
  image         uint8 (N, h, w, 3)
  truth/TASK, prediction/TASK
                by kind of the task: labels uint8 or int16 (N, h, w), 255 unlabelled; vectors int8
                (N, h, w, 3), component times 127, -128 unknown; depth and responses float16
                (N, h, w), values float32, NaN unknown
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.data.catalogue import dataset_spec
from trainables.data.splits import spread
from trainables.data.view import View
from trainables.errors import UserError
from trainables.registry.datasets import DatasetDescription
from trainables.registry.tasks import known_task
from trainables.tasks.measuring.predicted import predicted
from trainables.training.device import untuned
from trainables.training.files import write_file
from trainables.training.trial import TrialRun

FILE = "predictions.npz"
LONGEST_SIDE = 256  # pixels; of larger frames every second, third, … pixel is kept

_VECTOR_SCALE, _UNKNOWN_VECTOR = 127.0, -128


def save_predictions(path: Path, run: TrialRun) -> None:
    """Write what the model of a run that has ended predicts; nothing if the setting is 0.

    The file is complete or absent. Raises `OSError` if it cannot be written.
    """
    if run.config.training.prediction_frames:
        file = io.BytesIO()
        np.savez_compressed(file, **predictions(run))  # type: ignore[arg-type]
        write_file(path, file.getvalue())


def predictions(run: TrialRun) -> dict[str, np.ndarray]:
    """Return the arrays of the file, by name."""
    config, test = run.config, run.dataset.test
    chosen = spread(test.num_frames, config.training.prediction_frames)
    view = View(split=test.split, indices=test.indices[chosen])
    step = -(-max(config.data.size) // LONGEST_SIDE)
    outputs, targets = _outputs(run, view)
    arrays = {
        "frames": np.array(view.frames),
        "image": view.split.column("image")[view.indices][:, ::step, ::step],
    }
    kinds = {}
    for name, output_BChw in outputs.items():
        task = known_task(name)
        kinds[name] = task.kind
        shown = predicted(task, output_BChw, config.data.size, config.metrics)
        arrays[f"prediction/{name}"] = _stored(task.kind, shown[:, ::step, ::step])
        truth = _map(task.kind, targets[name])
        arrays[f"truth/{name}"] = _stored(task.kind, truth[:, ::step, ::step])
    about = {
        "kinds": kinds,
        "depth_kind": run.dataset.depth_kind,
        "step": step,
        "num_classes": {name: run.dataset.num_channels(name) for name in kinds},
        **class_legend(config.data.dataset),
    }
    return {"about": np.array(json.dumps(about)), **arrays}


def class_legend(dataset: str) -> dict[str, list[str]]:
    """Return the names and the colours of a data set's classes; none where it cannot be found.

    A user's own data set is code that need not be at hand where its model is.
    """
    try:
        described: DatasetDescription | None = dataset_spec(dataset)
    except UserError:
        described = None
    return {
        "class_names": list(described.class_names) if described else [],
        "class_colours": list(described.class_colours) if described else [],
    }


@torch.no_grad()
def _outputs(run: TrialRun, view: View) -> tuple[dict[str, Tensor], Mapping[str, Tensor]]:
    """Return the outputs of all tasks, (B, C, h, w) each and in their order, and the targets."""
    was_training = run.model.training
    run.model.eval()
    try:
        (batch,) = run.loop.source.evaluation_batches(view, view.num_frames)
        with untuned(), run.loop.gradient_step.autocast():
            outputs = run.model(batch.images_BCHW)
    finally:
        run.model.train(was_training)
    # Only maps can be drawn; a user's own task may predict something else.
    drawn = {name: outputs[name] for name in run.config.data.tasks if outputs[name].ndim == 4}
    return {name: output.float() for name, output in drawn.items()}, batch.targets


def _map(kind: str, target: Tensor) -> np.ndarray:
    array = target.cpu().numpy()
    if kind == "labels":
        return array.astype(np.uint8)
    return np.moveaxis(array, 1, -1) if kind == "vectors" else array[:, 0]


def _stored(kind: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "iu":
        return array
    if kind == "vectors" and array.shape[-1] == 3 and array.ndim == 4:
        unknown = np.isnan(array).any(axis=-1, keepdims=True)
        whole = np.rint(np.nan_to_num(array) * _VECTOR_SCALE).clip(-127, 127)
        return np.where(unknown, _UNKNOWN_VECTOR, whole).astype(np.int8)
    with np.errstate(over="ignore"):
        return array.astype(np.float32 if kind == "values" else np.float16)
