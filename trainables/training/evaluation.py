"""A model's metrics on one split, streamed batch by batch."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import nn

from trainables.data.batch import Batch
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
