"""Builds the tasks of a trial from their descriptions."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from trainables.errors import UserError
from trainables.registry.lookup import DATASET, TASK, implementation
from trainables.registry.tasks import TASKS, known_task
from trainables.tasks.base import MetricAccumulator, Task
from trainables.tasks.measuring.upsampling import downsample_target
from trainables.user_code import is_interruption, told


class LossAtLogits:
    """Computes a task's loss at the prediction's resolution; its metrics stay as they are.

    The released losses of DiSparse and AdaShare sample every target down to the logits, which
    leaves out 63 of 64 pixels at stride 8 (`training.loss_resolution` logits).
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        """Return the task's loss against the target at the prediction's size."""
        size = prediction_BCHW.shape[-2:]
        return self.task.loss(prediction_BCHW, downsample_target(target, size))

    def accumulator(self, definition: str, device: str) -> MetricAccumulator:
        """Return the task's own accumulator."""
        return self.task.accumulator(definition, device)


def build_tasks(
    names: Iterable[str],
    num_channels: Mapping[str, int],
    dataset: str | None = None,
    *,
    loss_resolution: str = "full",
) -> dict[str, Task]:
    """Build the named tasks, in that order.

    num_channels: channels of each task's prediction, from the data set.
    dataset: its description adds arguments for the tasks (`task_options`). For built-in data sets
      they only affect "published" metrics, whose evaluation treats the unlabelled pixels of
      Cityscapes (`SegmentationAccumulator`) and the normals of Taskonomy (`NormalsAccumulator`)
      differently, and so the disparities of Cityscapes (`DepthAccumulator`).
    loss_resolution: "full", or "logits" for losses at the predictions' size (`LossAtLogits`).
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
        except BaseException as error:
            known = isinstance(error, (UserError, MemoryError)) or is_interruption(error)
            if name in TASKS or known:
                raise
            raise UserError(
                f"the implementation of task {name!r} must be callable as Class(num_channels), "
                f"got {told(error)}; see trainables.tasks.base.Task"
            ) from error
    if loss_resolution == "logits":
        return {name: LossAtLogits(task) for name, task in tasks.items()}
    return tasks
