"""Defines the columns of a frame: the image, the targets of built-in tasks, and a user's own.

A column is an array that every frame has, with one value (or three) for each pixel. Its kind tells
the array's form and how it is resized, augmented and stored (`trainables.registry.tasks`).
"""

from collections.abc import Mapping

import numpy as np

from trainables.errors import unknown_name
from trainables.registry.datasets import DatasetDescription
from trainables.registry.lookup import tasks_of
from trainables.registry.tasks import TASKS, TaskDescription

IMAGE = "image"
# Targets of the built-in tasks, in the order of the tasks.
TARGETS = tuple(dict.fromkeys(task.target for task in TASKS.values()))
COLUMNS = (IMAGE, *TARGETS)

_BUILT_IN_KINDS = {IMAGE: IMAGE, **{task.target: task.kind for task in TASKS.values()}}

# Channels and type of a frame's array, by kind; None: (height, width) without channels.
CHANNELS: dict[str, int | None] = {
    IMAGE: 3,
    "labels": None,
    "values": None,
    "depth": None,
    "vectors": 3,
    "response": None,
}
DTYPES: dict[str, type[np.generic]] = {
    IMAGE: np.uint8,
    "labels": np.uint8,
    "values": np.float32,
    "depth": np.float32,
    "vectors": np.float32,
    "response": np.float32,
}


def kind_of(column: str, own_kinds: Mapping[str, str] | None = None) -> str:
    """Return the kind of a column: "image" or one of `TARGET_KINDS`.

    own_kinds: kinds of the columns that no built-in task reads. Raises `UserError` for an unknown
    column.
    """
    kinds = {**(own_kinds or {}), **_BUILT_IN_KINDS}
    if column not in kinds:
        raise unknown_name("target", column, kinds)
    return kinds[column]


def own_kinds_of(dataset: DatasetDescription) -> dict[str, str]:
    """Return the kinds of a data set's columns that only a user's own tasks read.

    Raises `UserError` for a task that cannot be found.
    """
    tasks = tasks_of(dataset).values()
    return {task.target: task.kind for task in tasks if task.target not in _BUILT_IN_KINDS}


def own_classes_of(dataset: DatasetDescription) -> dict[str, int]:
    """Return the number of classes of the label columns that only a user's own tasks read.

    A task of one channel may give any meaning to its labels, so its column has no number.
    """
    return {
        task.target: num
        for task in tasks_of(dataset).values()
        if task.target not in _BUILT_IN_KINDS
        and (num := num_classes_of(task, dataset.num_classes)) is not None
    }


def num_classes_of(task: TaskDescription, num_classes: int) -> int | None:
    """Return how many classes a task's labels have at most; None if it does not say.

    num_classes: of the data set. A prediction of one channel is no choice among classes.
    """
    if task.kind != "labels":
        return None
    channels = num_classes if task.channels == "classes" else task.channels
    return channels if channels > 1 else None
