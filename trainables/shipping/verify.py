"""Checks that what is shipped computes what was trained, on real test images.

Shape suffixes: B batch, C channels, H height, W width; h, w at the output stride.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from trainables.data.batch import Batch
from trainables.errors import Failure
from trainables.report import describe
from trainables.shipping.runtime import Predict
from trainables.tasks.base import Task

OUTPUT_TOLERANCE = 1e-4  # in float32, where a sum in another order differs by about 1e-6
METRIC_TOLERANCE = 1e-4

_RANDOM_BATCHES = 4
_RANDOM_BATCH_SIZE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """Holds how far each shipped network is from the masked model.

    on: "test", or "random images". num_images: how many.
    errors: by network ("compact", "onnxruntime", …) and task, the largest difference of any output
      over the largest magnitude of the task's outputs. Lower is better.
    metrics: by network, the masked one included ("masked"), the test metrics without split; empty
      without data.
    """

    on: str
    num_images: int
    errors: Mapping[str, Mapping[str, float]]
    metrics: Mapping[str, Mapping[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain values, ready for JSON."""
        return asdict(self)


@torch.no_grad()
def verify(
    masked: Predict,
    shipped: Mapping[str, Predict],
    batches: Iterable[Batch],
    tasks: Mapping[str, Task],
    *,
    definition: str,
) -> Verification:
    """Compare the outputs and the test metrics of the shipped networks with the masked model's.

    masked, shipped: on the CPU and in evaluation mode. batches: of the test split, on the CPU.
    definition: "corrected" or "published". Raises `Failure` with the figures if they differ by more
    than `OUTPUT_TOLERANCE` or `METRIC_TOLERANCE`.
    """
    networks = {"masked": masked, **shipped}
    accumulators = {
        name: {task: implementation.accumulator(definition, "cpu") for task, implementation in
               tasks.items()}
        for name in networks
    }  # fmt: skip
    distance = _Distance(tuple(tasks), tuple(shipped))
    num_images = 0
    for batch in batches:
        predictions = {name: network(batch.images_BCHW) for name, network in networks.items()}
        distance.add(predictions)
        num_images += len(batch.images_BCHW)
        for name, by_task in accumulators.items():
            for task, accumulator in by_task.items():
                accumulator.update(predictions[name][task].float(), batch.targets[task])
    metrics = {
        name: {m: v for accumulator in by_task.values() for m, v in accumulator.compute().items()}
        for name, by_task in accumulators.items()
    }
    result = Verification(
        on="test", num_images=num_images, errors=distance.relative(), metrics=metrics
    )
    _require_agreement(result)
    return result


@torch.no_grad()
def verify_on_random_images(
    masked: Predict, shipped: Mapping[str, Predict], tasks: Iterable[str], size: tuple[int, int]
) -> Verification:
    """Compare the outputs on normal noise of `size` (height, width): less than on real images.

    Raises `Failure` as `verify` does. No metrics are computed.
    """
    distance = _Distance(tuple(tasks), tuple(shipped))
    for images_BCHW in _random_images(size):
        distance.add({n: f(images_BCHW) for n, f in {"masked": masked, **shipped}.items()})
    result = Verification(
        on="random images",
        num_images=_RANDOM_BATCHES * _RANDOM_BATCH_SIZE,
        errors=distance.relative(),
        metrics={},
    )
    _require_agreement(result)
    return result


def _random_images(size: tuple[int, int]) -> Iterator[Tensor]:
    draws = torch.Generator().manual_seed(0)
    for _ in range(_RANDOM_BATCHES):
        yield torch.randn(_RANDOM_BATCH_SIZE, 3, *size, generator=draws)


class _Distance:
    """Accumulates the largest difference from the masked model, and its largest output."""

    def __init__(self, tasks: tuple[str, ...], shipped: tuple[str, ...]) -> None:
        self._magnitude = dict.fromkeys(tasks, 0.0)
        self._difference = {name: dict.fromkeys(tasks, 0.0) for name in shipped}

    def add(self, predictions: Mapping[str, Mapping[str, Tensor]]) -> None:
        for task in self._magnitude:
            expected = predictions["masked"][task]
            self._magnitude[task] = _larger(self._magnitude[task], expected.abs().max())
            for name, differences in self._difference.items():
                difference = (predictions[name][task] - expected).abs().max()
                differences[task] = _larger(differences[task], difference)

    def relative(self) -> dict[str, dict[str, float]]:
        # An output that is 0 everywhere leaves the absolute difference.
        return {
            name: {task: d / (self._magnitude[task] or 1.0) for task, d in differences.items()}
            for name, differences in self._difference.items()
        }


def _larger(before: float, now: Tensor) -> float:
    """Return the larger one; NaN wins, so that it is never overlooked."""
    value = float(now)
    return value if math.isnan(value) or value > before else before


def _allowed(metric: str, reference: float) -> float:
    """Return by how much a metric may differ; a median angle is known to 0.01 degrees."""
    resolution = 0.01 if describe(metric).unit == "deg" else 0.0
    return max(METRIC_TOLERANCE * max(1, abs(reference)), resolution)


def _require_agreement(result: Verification) -> None:
    problems = [
        f"{name}: {task} differs by {error:.2e} of its largest output"
        for name, by_task in result.errors.items()
        for task, error in by_task.items()
        if not error <= OUTPUT_TOLERANCE  # NaN too
    ]
    expected = result.metrics.get("masked", {})
    for name, metrics in result.metrics.items():
        for metric, value in metrics.items():
            reference = expected[metric]
            same = math.isnan(value) and math.isnan(reference)
            if not same and not abs(value - reference) <= _allowed(metric, reference):
                problems.append(f"{name}: {metric} is {value:.6g}, masked {reference:.6g}")
    if problems:
        raise Failure(
            f"the shipped model must compute what the trained one does (outputs to "
            f"{OUTPUT_TOLERANCE:g}, metrics to {METRIC_TOLERANCE:g}), but on {result.num_images} "
            f"images of {result.on} it does not: {'; '.join(problems)}"
        )
