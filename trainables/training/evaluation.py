"""Measures a model's metrics on one split, batch by batch, and what the model costs."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.cost.cost_model import CostModel
from trainables.data.batch import Batch
from trainables.data.catalogue import Dataset
from trainables.models.passes import predict
from trainables.tasks.base import Task
from trainables.tasks.calls import Metrics
from trainables.training.dense import Baseline
from trainables.training.loop.loop import TrainingLoop
from trainables.user_code import is_ours

FILLS = ("cuda",)  # devices on which all batches of a split have one shape


class Evaluator:
    """Measures the model of a training loop in its current state.

    dataset: its `val` and `test` are used. baseline: adds `multitask/delta_percent`.
    """

    def __init__(
        self,
        config: TrialConfig,
        *,
        dataset: Dataset,
        loop: TrainingLoop,
        cost: CostModel,
        baseline: Baseline,
    ) -> None:
        self._config = config
        self._dataset = dataset
        self._loop = loop
        self._cost = cost
        self._baseline = baseline

    def quality(self, split: str) -> dict[str, float]:
        """Return the tasks' metrics on "val" or "test", by full name."""
        loop, training = self._loop, self._config.training
        view = self._dataset.val if split == "val" else self._dataset.test
        metrics = evaluate(
            loop.model,
            loop.tasks,
            loop.source.evaluation_batches(view, training.evaluation_batch_size),
            definition=self._config.metrics,
            device=loop.device,
            autocast=loop.gradient_step.autocast,
        )
        if not is_ours(loop.model):
            loop.registry.require_zeros(f"model {self._config.model.name!r}")
        named = {f"{split}/{name}": value for name, value in metrics.items()}
        return named | self._baseline.delta(split, named)

    def costs(self, *, latency: bool = False) -> dict[str, float]:
        """Return the `cost/…` metrics; `latency` measures `cost/latency_ms` too."""
        loop, training = self._loop, self._config.training
        return self._cost.metrics(
            average_training_density=loop.average_training_density,
            average_step_flops=loop.average_step_flops,
            scoring_steps=loop.scoring_steps,
            reference_steps=training.reference_steps,
            train_steps=training.steps,
            pretrain_steps=loop.pretrain_steps,
            latency=latency,
        )


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
    """Return `{"segmentation/miou": …}` over all batches, without split.

    definition: "corrected" or "published". The model's mode is restored.

    On CUDA a short last batch is filled up with its own frames, whose second predictions are
    dropped: for another shape, cuDNN would try out the kernels of all convolutions again.
    """
    accumulators = {name: Metrics(name, task, definition, device) for name, task in tasks.items()}
    was_training = model.training
    model.eval()
    try:
        size = 0  # of the first batch
        for batch in batches:
            count = len(batch.images_BCHW)
            size = max(size, count) if device in FILLS else count
            with autocast():
                predictions = predict(model, filled(batch.images_BCHW, size), tuple(tasks))
            for name, accumulator in accumulators.items():
                accumulator.update(predictions[name][:count], batch.targets[name])
    finally:
        model.train(was_training)
    metrics: dict[str, float] = {}
    for accumulator in accumulators.values():
        metrics.update(accumulator.compute())
    return metrics


def filled(images_BCHW: Tensor, size: int) -> Tensor:
    """Return `size` images: the given ones, and then the same again as often as it takes."""
    count = len(images_BCHW)
    if count == size:
        return images_BCHW
    return torch.cat([images_BCHW] * (size // count) + [images_BCHW[: size % count]])
