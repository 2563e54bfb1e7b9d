"""Predicts every task of one picture, and writes what comes out as pictures and arrays.

OUT/NAME/overview.png    the picture and all tasks side by side, with legends and scales
OUT/NAME/TASK.png        in colours, of exactly the picture's height and width
OUT/NAME/TASK.npy        the prediction itself (`trainables.tasks.measuring.predicted`)
OUT/classes.csv          number, name and colour of every class, where a task has classes
"""

import contextlib
import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainables.errors import UserError, is_full_disk
from trainables.pictures.colours import class_colours
from trainables.pictures.maps import (
    coloured,
    drawn_values,
    is_classes,
    is_directions,
    limits_of,
    scale_of,
    unit_of_depth,
)
from trainables.prediction.images import Picture
from trainables.prediction.network import Network, Size
from trainables.prediction.sheet import Panel, overview
from trainables.registry.datasets import DatasetDescription
from trainables.registry.lookup import DATASET
from trainables.registry.tasks import TaskDescription, known_task
from trainables.tasks.measuring.predicted import predicted
from trainables.training.files import write_file

CLASSES = "classes.csv"
_MAX_NAMED = 12  # of the classes in a sentence; all are in the table
_DIRECTIONS = (
    ((255, 128, 128), "right"),
    ((128, 255, 128), "up"),
    ((128, 128, 255), "towards the camera"),
)


class Predictor:
    """Predicts with one network, and names things as the data set that it was trained on does.

    out: the folder of the results. size: at which images go into the network; None for
    `Network.size_for`.
    """

    def __init__(self, network: Network, out: Path, size: Size | None) -> None:
        self.network, self.out, self.size = network, out, size
        config = network.config
        self.tasks = {name: known_task(name) for name in config.data.tasks}
        self._dataset: DatasetDescription | None = None
        with contextlib.suppress(UserError):  # a user's own without its code: classes have numbers
            self._dataset = DATASET.find(config.data.dataset)

    @property
    def trained_on(self) -> str:
        """Return what the model was trained on and the classes it knows, in words."""
        data, known = self.network.config.data, self._dataset
        drawn = " (drawn by a program)" if known is not None and known.generate else ""
        said = f"the model was trained on {data.dataset}{drawn}"
        if known is None or not any(task.channels == "classes" for task in self.tasks.values()):
            return f"{said}; of other pictures it may know little"
        names = list(known.class_names)
        if not names:
            return f"{said} and knows only its {known.num_classes} classes"
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        listed = f"{', '.join(names[:_MAX_NAMED])}{more}"
        return f"{said} and knows only these {len(names)} classes: {listed}"

    def predict(self, picture: Picture, name: str) -> dict[str, Any]:
        """Write the files of one picture into the folder `name`; return what they are, for JSON.

        Raises `UserError` for a size that the network cannot take and a folder that is not
        writable.
        """
        config = self.network.config
        size = self.network.size_for(picture.size, self.size)
        outputs = self.network.outputs(picture.pixels, size)
        panels = [Panel(title="image", colours=picture.pixels)]
        files: dict[str, Callable[[], bytes]] = {}
        found = {}
        for task_name, task in self.tasks.items():
            if outputs[task_name].ndim != 4:
                continue  # a user's own task that predicts no map
            (array,) = predicted(task, outputs[task_name], picture.size, config.metrics)
            panel = self._panel(task, array, outputs[task_name].shape[1])
            panels.append(panel)
            found[task_name] = _figures(array)
            files[f"{task_name}.png"] = _png(Image.fromarray(panel.colours))
            files[f"{task_name}.npy"] = _npy(array)
        files["overview.png"] = _png(overview(panels))
        for file, contents in files.items():
            self._write(self.out / name / file, contents())
        return {
            "image": str(picture.path),
            "size": list(picture.size),
            "network_size": list(size),
            "notes": list(picture.notes),
            "files": [str(self.out / name / file) for file in files],
            "predictions": found,
        }

    def write_classes(self) -> None:
        """Write the table of classes, if a task of the model has the data set's."""
        if self._dataset is None or not any(t.channels == "classes" for t in self.tasks.values()):
            return
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("class", "name", "colour"))
        count = self._dataset.num_classes
        for number, colour in enumerate(class_colours(count, self._dataset.class_colours)):
            rows.writerow((number, self._name(number), "#" + bytes(colour).hex()))
        self._write(self.out / CLASSES, text.getvalue().encode())

    def _panel(self, task: TaskDescription, array: np.ndarray, channels: int) -> Panel:
        if is_classes(task.kind, array):
            of_dataset = task.channels == "classes" and self._dataset is not None
            own = self._dataset.class_colours if of_dataset and self._dataset else ()
            palette = class_colours(channels, own)
            ids, counts = np.unique(array, return_counts=True)
            order = np.argsort(-counts, kind="stable")
            entries = []
            for i in order:
                share = f"{100 * counts[i] / array.size:.0f} %"
                text = f"{self._name(int(ids[i]), named=of_dataset)} {share}"
                entries.append((tuple(palette[ids[i]].tolist()), text))
            colours = coloured(task.kind, array, palette=palette)
            return Panel(title=task.name, colours=colours, entries=entries)
        if is_directions(task.kind, array):
            return Panel(title=task.name, colours=coloured(task.kind, array), entries=_DIRECTIONS)
        values = drawn_values(array)
        low, high = limits_of(task.kind, values)
        within = values.min() >= low and values.max() <= high
        return Panel(
            title=task.name if array.ndim == 2 else f"{task.name}, channel 1 of {array.shape[-1]}",
            colours=coloured(task.kind, array, limits=(low, high)),
            scale=scale_of(task.kind),
            ends=(f"{low:.3g}", f"{high:.3g}") if within else (f"<= {low:.3g}", f">= {high:.3g}"),
            unit=self._unit(task.kind),
        )

    def _name(self, number: int, *, named: bool = True) -> str:
        names = self._dataset.class_names if self._dataset is not None and named else ()
        return names[number] if number < len(names) else f"class {number}"

    def _unit(self, kind: str) -> str:
        if kind == "depth":
            return unit_of_depth(self._dataset.depth_kind if self._dataset is not None else "")
        return "response" if kind == "response" else ""

    def _write(self, path: Path, contents: bytes) -> None:
        try:
            write_file(path, contents)
        except OSError as error:
            if is_full_disk(error):
                raise
            raise UserError(
                f"`--out` must be writable, got {str(path)!r} ({error.strerror}); choose another "
                "folder"
            ) from None


def unique_names(paths: list[Path]) -> list[str]:
    """Return a folder name for each picture: its own without suffix, numbered where two agree."""
    names: list[str] = []
    for path in paths:
        stem = path.stem.strip(".") or "picture"
        name, number = stem, 1
        while name.lower() in (CLASSES, *(other.lower() for other in names)):
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def _figures(array: np.ndarray) -> Mapping[str, Any]:
    """Return what is in a prediction, for JSON: the share of every class, or a range of values."""
    about: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.dtype.kind in "iu":
        ids, counts = np.unique(array, return_counts=True)
        shares = counts / array.size
        return about | {"classes": {str(i): float(s) for i, s in zip(ids, shares, strict=True)}}
    low, mean, high = (float(f(array)) for f in (np.min, np.mean, np.max))
    return about | {"min": low, "mean": mean, "max": high}


def _png(image: Image.Image) -> Callable[[], bytes]:
    def contents() -> bytes:
        file = io.BytesIO()
        image.save(file, "PNG")
        return file.getvalue()

    return contents


def _npy(array: np.ndarray) -> Callable[[], bytes]:
    def contents() -> bytes:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return file.getvalue()

    return contents
