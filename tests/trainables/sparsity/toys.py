"""A network, tasks and contexts small enough to work by hand."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.data.batch import Batch
from trainables.models.base import SHARED
from trainables.models.service import Service
from trainables.sparsity.masking.channel_units import ChannelUnits
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.method import MethodContext
from trainables.sparsity.structures.catalogue import build_structure

CONFIG = {
    "method": "random",
    "seed": 0,
    "metrics": "corrected",
    "data": {
        "dataset": "scenes",
        "tasks": ["a", "b"],
        "size": [16, 16],
        "crop": [16, 16],
        "scale_range": [1.0, 1.0],
        "mirror": False,
        "validation_fraction": 0.1,
        "split_seed": 0,
    },
    "model": {
        "name": "toy",
        "width": 4,
        "blocks": [1],
        "strides": [1],
        "dilations": [1],
        "head_width": 4,
        "head_dilations": [1],
        "unit_rate": 100.0,
    },
    "sparsity": {
        "structure": "weight",
        "target": 0.9,
        "counts": "parameters",
        "round_to": 1,
        "allocation": "global",
        "schedule": "one-shot",
        "start_fraction": 0.0,
        "end_fraction": 0.5,
        "interval_steps": 5,
        "level_fraction": 0.2,
        "rewind_fraction": 0.05,
        "score": "taylor",
        "saliency_batches": 3,
        "saliency_weights": "actual",
        "arbiter": "unanimous",
    },
    "regrowth": {
        "fraction": 0.5,
        "annealing": "cosine",
        "interval_steps": 10,
        "end_fraction": 0.75,
        "budget": "exact",
    },
    "optimiser": {
        "name": "adam",
        "learning_rate": 0.01,
        "weight_decay": 0.0005,
        "momentum": 0.9,
        "rate_schedule": "constant",
        "halve_every_fraction": 0.2,
        "clip_norm": None,
    },
    "training": {
        "steps": 100,
        "pretrain_steps": 0,
        "reference_steps": 100,
        "batch_size": 4,
        "accumulation": 1,
        "evaluation_batch_size": 4,
        "num_reports": 2,
        "loss_weights": {"a": 1.0, "b": 20.0, "c": 3.0},
        "precision": "fp32",
        "channels_last": False,
        "graph": "off",
    },
    "deployment": {"measure": False, "runtime": "torch", "device": "cpu", "threads": 1},
}


def toy_config(**overrides: object) -> TrialConfig:
    """Overrides are dotted names with `__` for the dot."""
    config = TrialConfig.from_dict(CONFIG)
    return config.replace({name.replace("__", "."): v for name, v in overrides.items()})


class ToyNetwork(nn.Module):
    """Two shared convolutions with batch normalisation, and per task a convolution and 1×1."""

    def __init__(self, tasks: Sequence[str] = ("a", "b"), width: int = 6, seed: int = 0) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            self.heads = nn.ModuleDict(
                {
                    task: nn.Sequential(nn.Conv2d(width, 4, 3, padding=1), nn.Conv2d(4, 2, 1))
                    for task in tasks
                }
            )

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        features = self.trunk(images_BCHW)
        return {task: self.heads[task](features) for task in tasks or self.tasks}

    def owners(self) -> dict[str, str]:
        return {
            name: name.split(".")[1] if name.startswith("heads") else SHARED
            for name, _ in self.named_parameters()
        }


def as_image(target: Tensor) -> Tensor:
    """One number for an example is an image of one pixel."""
    return target[:, :, None, None] if target.dim() == 2 else target


class ToyTask:
    """Squared error, scaled, so that tasks pull apart."""

    num_channels = 2

    def __init__(self, name: str) -> None:
        self.name = name

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        return (prediction_BCHW - as_image(target)).square().mean()

    def accumulator(self, definition: str, device: str) -> object:
        raise NotImplementedError


class LinearNetwork(nn.Module):
    """y_k = W_k (W_s x), by hand: `shared` (s×i), heads (1×s each)."""

    def __init__(self, shared: Tensor, heads: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.tasks = tuple(heads)
        self.shared = nn.Linear(shared.shape[1], shared.shape[0], bias=False)
        self.shared.weight.data.copy_(shared)
        self.heads = nn.ModuleDict()
        for task, weight in heads.items():
            self.heads[task] = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            self.heads[task].weight.data.copy_(weight)

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        features = self.shared(images_BCHW.flatten(1))
        asked = tasks or self.tasks
        return {task: self.heads[task](features)[:, :, None, None] for task in asked}

    def owners(self) -> dict[str, str]:
        return {
            name: name.split(".")[1] if name.startswith("heads") else SHARED
            for name, _ in self.named_parameters()
        }


class SumTask(ToyTask):
    """Loss = Σ prediction · target, so gradients are read off the page."""

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        return (prediction_BCHW * as_image(target)).sum()


def random_batch(seed: int, tasks: Sequence[str], size: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        images_BCHW=torch.randn(size, 3, 8, 8, generator=generator),
        targets={
            task: (i + 1) * torch.randn(size, 2, 8, 8, generator=generator)
            for i, task in enumerate(tasks)
        },
    )


@dataclass
class Toy:
    model: nn.Module
    registry: MaskRegistry
    context: MethodContext


def toy_context(
    model: nn.Module,
    *,
    batches: Sequence[Batch] | None = None,
    task_type: type[ToyTask] = ToyTask,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    seed: int = 0,
    units: ChannelUnits | None = None,
    service: Service | None = None,
    **overrides: object,
) -> Toy:
    tasks: tuple[str, ...] = model.tasks  # type: ignore[assignment]

    def source(count: int) -> Iterator[Batch]:
        for i in range(count):
            yield batches[i] if batches is not None else random_batch(100 + i, tasks)

    registry = MaskRegistry(model, service)
    config = toy_config(**overrides)
    if units is not None:
        registry.use_units(model, units)
    context = MethodContext(
        model=model,
        registry=registry,
        tasks={task: task_type(task) for task in tasks},
        loss_weights={task: 1.0 for task in tasks},
        batches=source,
        autocast=autocast,
        generator=torch.Generator().manual_seed(seed),
        config=config,
        structure=build_structure(config.sparsity, registry, {}),
    )
    return Toy(model, registry, context)
