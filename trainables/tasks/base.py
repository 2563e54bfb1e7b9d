"""A task: its loss and its metrics stand together."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class MetricAccumulator(Protocol):
    """Streams a split's metrics on the device; never stores all pixels."""

    def update(self, prediction_BCHW: Tensor, target: Tensor) -> None:
        """Add one batch; the prediction is at the network's stride, the target at full size."""
        ...

    def compute(self) -> Mapping[str, float]:
        """`{"segmentation/miou": …}`: the metric names of `trainables.report`, no split."""
        ...


class Task(Protocol):
    """What the trainer needs of a task. Predictions are up-sampled here, never in the model.

    The class is called with the number of channels of the prediction, and with what the data set
    tells it (`task_options`). Its name and metrics are in its description.
    """

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        """A scalar; finite (zero) when no pixel of the batch is valid."""
        ...

    def accumulator(self, definition: str, device: str) -> MetricAccumulator:
        """`definition` is "corrected" or "published"."""
        ...
