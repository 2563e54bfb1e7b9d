"""Calls a task's loss and metrics; what a user's own raises or returns amiss is said once."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trainables.errors import UserError
from trainables.registry.tasks import known_task
from trainables.tasks.base import MetricAccumulator, Task
from trainables.user_code import calling, is_ours


def loss_of(name: str, task: Task, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
    """Return the loss of one task, a scalar; the prediction is taken in float32.

    Raises `UserError` for a user's task that raises or that returns no scalar tensor.
    """
    with calling(_what("loss", name, prediction_BCHW, target), task):
        loss: Any = task.loss(prediction_BCHW.float(), target)
    if not is_ours(task) and (not isinstance(loss, Tensor) or loss.ndim):
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise UserError(
            f"the loss of task {name!r} must be a tensor without dimensions, got {shape}; "
            "return its mean or its sum, as in trainables.tasks.base.Task"
        )
    return loss


class Metrics:
    """Accumulates the metrics of one task over a split.

    Raises `UserError` for a user's task whose accumulator raises, or lacks a declared metric.
    """

    def __init__(self, name: str, task: Task, definition: str, device: str) -> None:
        self._name, self._task = name, task
        with calling(f"the accumulator of task {name!r}", task):
            self._accumulator: MetricAccumulator = task.accumulator(definition, device)

    def update(self, prediction_BCHW: Tensor, target: Tensor) -> None:
        """Add one batch; the prediction is taken in float32."""
        with calling(_what("metrics", self._name, prediction_BCHW, target), self._task):
            self._accumulator.update(prediction_BCHW.float(), target)

    def compute(self) -> dict[str, float]:
        """Return the metrics by name, without split."""
        with calling(f"the metrics of task {self._name!r}", self._task):
            found = self._accumulator.compute()
        if is_ours(self._task):
            return dict(found)
        return _numbers(self._name, found)


def _numbers(name: str, found: object) -> dict[str, float]:
    declared = tuple(metric.name for metric in known_task(name).metrics)
    rule = f"the metrics of task {name!r} must be a dict of the numbers {declared}"
    if not isinstance(found, Mapping):
        raise UserError(f"{rule}, got {type(found).__name__}; return them from compute()")
    if set(found) != set(declared):
        raise UserError(f"{rule}, got {tuple(found)}; return what its description declares")
    numbers = {}
    for metric, value in found.items():
        try:
            numbers[metric] = float(value)
        except (TypeError, ValueError, RuntimeError):
            raise UserError(f"{rule}, got {value!r:.80} for {metric}; return a float") from None
    return numbers


def _what(part: str, name: str, prediction: Tensor, target: Tensor) -> str:
    shapes = ["x".join(map(str, getattr(value, "shape", ()))) for value in (prediction, target)]
    return f"the {part} of task {name!r}, given a prediction {shapes[0]} and a target {shapes[1]},"
