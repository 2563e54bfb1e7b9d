"""A model, its tasks, masks and one batch, as training has them, without a dataset.

Suffixes: B batch, H height, W width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spaces.presets import trial_config
from trainables.config import TrialConfig
from trainables.data.batch import Batch
from trainables.models.catalogue import build_model
from trainables.seeds import generator
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.method import MethodContext
from trainables.sparsity.structures.catalogue import build_structure
from trainables.tasks.base import Task
from trainables.tasks.catalogue import build_tasks
from trainables.training.device import autocast_factory, prepare_device, resolve_precision
from trainables.training.loop.optimisation import build_optimiser

NUM_CLASSES = 40
_NUM_CHANNELS = {"segmentation": NUM_CLASSES, "normals": 3, "depth": 1, "keypoints": 1, "edges": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """One network in training. Two of the same arguments are equal, weights included."""

    config: TrialConfig
    device: str
    model: nn.Module
    tasks: Mapping[str, Task]
    registry: MaskRegistry
    optimiser: torch.optim.Optimizer
    batch: Batch

    def context(self) -> MethodContext:
        """What a sparsity method sees; every scoring batch is this workload's batch."""
        return MethodContext(
            model=self.model,
            registry=self.registry,
            tasks=self.tasks,
            loss_weights=self.config.training.loss_weights,
            batches=self._batches,
            autocast=self._autocast(),
            generator=generator(self.config.seed, "masks"),
            config=self.config,
            structure=build_structure(self.config.sparsity, self.registry, {}),
        )

    def step(self, batch: Batch | None = None, *, masked: bool) -> None:
        """One optimiser step; `masked` adds what the masks cost, and nothing else.

        The other half of that cost, masking the weights, sits in the hook that `attach` sets.
        """
        batch = self.batch if batch is None else batch
        self.optimiser.zero_grad(set_to_none=True)
        self.loss(batch).backward()
        if masked:
            self.registry.apply_to_gradients()
        self.optimiser.step()

    def loss(self, batch: Batch, tasks: Sequence[str] | None = None) -> Tensor:
        """The weighted sum over the named tasks, all by default."""
        names = tuple(self.tasks) if tasks is None else tuple(tasks)
        with self._autocast()():
            predictions = self.model(batch.images_BCHW, names)
        weights = self.config.training.loss_weights
        terms = [
            weights[name] * self.tasks[name].loss(predictions[name].float(), batch.targets[name])
            for name in names
        ]
        return torch.stack(terms).sum()

    def prune_at_random(self, density: float) -> None:
        """Masks of that density in every layer, and the hook that keeps pruned weights at 0."""
        random = generator(self.config.seed, "masks")
        masks = {
            name: (torch.rand(weight.shape, generator=random) < density).to(weight.device)
            for name, weight in self.registry.parameters.items()
        }
        self.registry.update(masks, self.optimiser)
        self.registry.attach(self.optimiser)

    def _autocast(self) -> Callable[[], AbstractContextManager[object]]:
        precision = resolve_precision(self.config.training.precision, self.device)
        return autocast_factory(precision, self.device)

    def _batches(self, num_batches: int) -> Iterator[Batch]:
        for _ in range(num_batches):
            yield self.batch


def build_workload(
    preset: str,
    *,
    method: str = "random",
    dataset: str = "scenes",
    tasks: Sequence[str] | None = None,
    device: str = "cpu",
) -> Workload:
    """The network of a preset with Adam and a random batch of its crop size."""
    prepare_device(device)
    config = trial_config(method, dataset, preset, tasks=tasks)
    num_channels = {task: _NUM_CHANNELS[task] for task in config.data.tasks}
    model = build_model(config.model, num_channels, config.seed)
    model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.train()
    return Workload(
        config=config,
        device=device,
        model=model,
        tasks=build_tasks(config.data.tasks, num_channels),
        registry=MaskRegistry(model),
        optimiser=build_optimiser(config.optimiser, model),
        batch=random_batch(config, device),
    )


def random_batch(config: TrialConfig, device: str) -> Batch:
    """Noise in the types and shapes of a training batch; every pixel is labelled."""
    random = generator(config.seed, "data")
    shape_BHW = (config.training.batch_size, *config.data.crop)
    batch_size, height, width = shape_BHW
    one_BCHW = (batch_size, 1, height, width)
    three_BCHW = (batch_size, 3, height, width)
    normals = torch.randn(three_BCHW, generator=random)
    targets = {
        "segmentation": torch.randint(NUM_CLASSES, shape_BHW, generator=random),
        "normals": normals / normals.norm(dim=1, keepdim=True),
        "depth": 0.5 + 4 * torch.rand(one_BCHW, generator=random),
        "keypoints": torch.rand(one_BCHW, generator=random),
        "edges": torch.rand(one_BCHW, generator=random),
    }
    images = torch.randn(three_BCHW, generator=random).to(device)
    return Batch(
        images_BCHW=images.contiguous(memory_format=torch.channels_last),
        targets={task: targets[task].to(device) for task in config.data.tasks},
    )
