"""Builds the tasks of a trial from their descriptions."""

from collections.abc import Iterable, Mapping

from trainables.errors import UserError
from trainables.registry.lookup import DATASET, TASK, implementation
from trainables.registry.tasks import TASKS, known_task
from trainables.tasks.base import Task
from trainables.user_code import told


def build_tasks(
    names: Iterable[str], num_channels: Mapping[str, int], dataset: str | None = None
) -> dict[str, Task]:
    """Build the named tasks, in that order.

    num_channels: channels of each task's prediction, from the data set.
    dataset: its description adds arguments for the tasks (`task_options`). For built-in data sets
      they only affect "published" metrics, whose evaluation treats the unlabelled pixels of
      Cityscapes (`SegmentationAccumulator`) and the normals of Taskonomy (`NormalsAccumulator`)
      differently.
    Raises `UserError` for an unknown task, a number of channels that does not fit, and a user's
    implementation that cannot be built.
    """
    options = {} if dataset is None else DATASET.find(dataset).task_options
    tasks: dict[str, Task] = {}
    for name in names:
        described = known_task(name)
        channels, expected = num_channels[name], described.channels
        if expected != "classes" and channels != expected:
            raise UserError(f"`{name}` must predict {expected} channels, got {channels}; set it so")
        if channels < 1:
            raise UserError(f"`{name}` must predict at least 1 channel, got {channels}; raise it")
        build = implementation(described.implementation, TASK.noun)
        try:
            tasks[name] = build(channels, **options.get(name, {}))
        except Exception as error:
            if name in TASKS or isinstance(error, (UserError, MemoryError)):
                raise
            raise UserError(
                f"the implementation of task {name!r} must be callable as Class(num_channels), "
                f"got {told(error)}; see trainables.tasks.base.Task"
            ) from error
    return tasks
