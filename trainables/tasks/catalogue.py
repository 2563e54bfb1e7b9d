"""The tasks by name."""

from collections.abc import Iterable, Mapping

from trainables.errors import UserError, unknown_name
from trainables.tasks.base import Task
from trainables.tasks.depth import Depth
from trainables.tasks.edges import Edges
from trainables.tasks.keypoints import Keypoints
from trainables.tasks.normals import Normals
from trainables.tasks.segmentation import Segmentation

TASKS: dict[str, type[Segmentation | Normals | Depth | Keypoints | Edges]] = {
    "segmentation": Segmentation,
    "normals": Normals,
    "depth": Depth,
    "keypoints": Keypoints,
    "edges": Edges,
}

# Of the prediction; segmentation's depends on the data set.
_FIXED_CHANNELS = {"normals": 3, "depth": 1, "keypoints": 1, "edges": 1}

# Whose unlabelled pixels the published evaluation counts: it marks them -1, and 255 elsewhere.
_COUNTS_IGNORED = ("cityscapes", "cityscapes-metric")
# Whose normals the published evaluation compares as vectors; elsewhere as colours.
_NORMALS_AS_VECTORS = ("taskonomy",)


def build_tasks(
    names: Iterable[str], num_channels: Mapping[str, int], dataset: str | None = None
) -> dict[str, Task]:
    """The named tasks, in that order.

    num_channels: of each task's prediction, as the data set says.
    dataset: matters to "published" metrics alone, whose evaluation treats unlabelled
      pixels of Cityscapes differently (see `SegmentationAccumulator`), and the normals of
      Taskonomy (see `NormalsAccumulator`).
    Raises `UserError` for an unknown task or a number of channels that does not fit.
    """
    tasks: dict[str, Task] = {}
    for name in names:
        if name not in TASKS:
            raise unknown_name("task", name, TASKS)
        channels = num_channels[name]
        expected = _FIXED_CHANNELS.get(name)
        if expected is not None and channels != expected:
            raise UserError(f"`{name}` must predict {expected} channels, got {channels}; set it so")
        if channels < 1:
            raise UserError(f"`{name}` must predict at least 1 channel, got {channels}; raise it")
        if name == "segmentation":
            tasks[name] = Segmentation(channels, counts_ignored=dataset in _COUNTS_IGNORED)
        elif name == "normals":
            tasks[name] = Normals(channels, as_colours=dataset not in _NORMALS_AS_VECTORS)
        else:
            tasks[name] = TASKS[name](channels)
    return tasks
