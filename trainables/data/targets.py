"""What the columns of a frame are: the image, the targets of built-in tasks, and a user's own.

A column is an array of every frame, one value (or three) for each pixel. Its kind says how the
array looks and how it may be resized, augmented and stored (`trainables.registry.tasks`).
"""

from collections.abc import Mapping

import numpy as np

from trainables.errors import unknown_name
from trainables.registry.datasets import DatasetDescription
from trainables.registry.lookup import tasks_of
from trainables.registry.tasks import TASKS

IMAGE = "image"
# Of the built-in tasks, in their order.
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
    """The kind of a column: "image" or one of `TARGET_KINDS`.

    own_kinds: of the columns that no built-in task reads. Raises `UserError` for an unknown one.
    """
    kinds = {**(own_kinds or {}), **_BUILT_IN_KINDS}
    if column not in kinds:
        raise unknown_name("target", column, kinds)
    return kinds[column]


def own_kinds_of(dataset: DatasetDescription) -> dict[str, str]:
    """The kinds of the columns that a data set has for own tasks of a user. Raises `UserError`."""
    tasks = tasks_of(dataset).values()
    return {task.target: task.kind for task in tasks if task.target not in _BUILT_IN_KINDS}
