"""A model's metrics on one split, streamed batch by batch."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import nn

from trainables.data.batch import Batch
from trainables.report import METRICS
from trainables.tasks.base import Task


@torch.no_grad()
def evaluate(
    model: nn.Module,
    tasks: Mapping[str, Task],
    batches: Iterable[Batch],
    *,
    definition: str,
    device: str,
    autocast: Callable[[], AbstractContextManager[object]],
) -> dict[str, float]:
    """`{"segmentation/miou": …}` over all batches, without split. The model's mode is restored."""
    accumulators = {name: task.accumulator(definition, device) for name, task in tasks.items()}
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            with autocast():
                predictions = model(batch.images_BCHW)
            for name, accumulator in accumulators.items():
                accumulator.update(predictions[name].float(), batch.targets[name])
    finally:
        model.train(was_training)
    metrics: dict[str, float] = {}
    for accumulator in accumulators.values():
        metrics.update(accumulator.compute())
    return metrics


def delta_percent(metrics: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """Mean signed relative change to the dense baseline over all metrics, in percent.

    AdaShare (Sun et al. 2020, section 4.1), Δ_T: the mean over tasks of the mean over a task's
    metrics; positive is better. Both mappings hold the same split-less names.
    """
    by_task: dict[str, list[float]] = {}
    for name, value in metrics.items():
        reference = baseline.get(name)
        if reference is None or reference == 0:
            continue
        change = -METRICS[name].sign * (value - reference) / abs(reference)
        by_task.setdefault(name.split("/")[0], []).append(change)
    means = [sum(changes) / len(changes) for changes in by_task.values()]
    return 100.0 * sum(means) / len(means) if means else float("nan")
