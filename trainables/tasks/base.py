"""Defines the contract of a task: its loss and its metrics."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class MetricAccumulator(Protocol):
    """Accumulates a split's metrics on the device without storing all pixels."""

    def update(self, prediction_BCHW: Tensor, target: Tensor) -> None:
        """Add one batch; the prediction is at the network's stride, the target at full size."""
        ...

    def compute(self) -> Mapping[str, float]:
        """Return `{"segmentation/miou": …}`, named as in `trainables.report`, without split."""
        ...


class Task(Protocol):
    """Describes what the trainer needs of a task; it up-samples predictions, not the model.

    The class is called with the number of channels of the prediction and the data set's
    `task_options`. Its name and metrics are in its description.
    """

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; zero if no pixel of the batch is valid."""
        ...

    def accumulator(self, definition: str, device: str) -> MetricAccumulator:
        """Return a new accumulator; `definition` is "corrected" or "published"."""
        ...
