"""Puts together what a trial trains: its data, network, masks, costs and loop."""

from dataclasses import dataclass

from torch import nn

from trainables.config import TrialConfig
from trainables.cost.cost_model import CostModel
from trainables.cost.narrower import network_of
from trainables.cost.reference import reference_of
from trainables.data.catalogue import Dataset, open_dataset
from trainables.data.loading.loader import BatchSource
from trainables.models.catalogue import build_model, check_predictions, service_of
from trainables.sparsity.catalogue import get_method
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.catalogue import build_structure, use_structure
from trainables.tasks.base import Task
from trainables.tasks.catalogue import build_tasks
from trainables.training.device import placed, require_memory, untuned
from trainables.training.loop.loop import TrainingLoop


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """Holds the parts of one trial, each made for the others.

    num_channels: of each task's prediction.
    """

    dataset: Dataset
    num_channels: dict[str, int]
    tasks: dict[str, Task]
    model: nn.Module
    registry: MaskRegistry
    cost: CostModel
    loop: TrainingLoop


def assemble(config: TrialConfig, device: str, owners: dict[str, object]) -> Parts:
    """Return the parts of the trial `config` on a device, "cpu" or "cuda".

    owners: gets what may be a user's own, by name, as soon as it exists, so that the caller can
      say whose code failed here.
    Raises `UserError` for a configuration that cannot be trained.
    """
    dataset = open_dataset(config.data)
    require_memory(config, device, max(dataset.val.num_frames, dataset.test.num_frames))
    num_channels = {task: dataset.num_channels(task) for task in config.data.tasks}
    at = config.training.loss_resolution
    tasks = build_tasks(config.data.tasks, num_channels, config.data.dataset, loss_resolution=at)
    network = network_of(config, num_channels)
    model = build_model(network, num_channels, config.seed)
    method = get_method(config.method)
    owners |= {f"model {config.model.name!r}": model, **tasks, config.method: method}
    # On the CPU, as wherever a model is loaded: a GPU draws other numbers, which may decide.
    service = service_of(network, model, config.data.size)
    model = placed(model, device, channels_last=config.training.channels_last)
    with untuned():
        check_predictions(config.model.name, model, num_channels, config.data.size)
    registry = MaskRegistry(model, service)
    method.description.require_structure(config.sparsity.structure)
    if method.sparse:
        use_structure(config.sparsity.structure, registry, model, config.data.size)
    reference = reference_of(config.model, network, num_channels, config.data.size)
    cost = CostModel(model, registry, config.data.size, reference=reference)
    loop = TrainingLoop(
        config,
        model=model,
        tasks=tasks,
        registry=registry,
        method=method,
        structure=build_structure(config.sparsity, registry, cost.flops.layers, cost.flops.other),
        source=BatchSource(
            dataset.train,
            config.data,
            tasks=config.data.tasks,
            batch_size=config.training.batch_size,
            seed=config.seed,
            device=device,
        ),
        device=device,
        flops_fraction=cost.flops_fraction,
    )
    return Parts(
        dataset=dataset,
        num_channels=num_channels,
        tasks=tasks,
        model=model,
        registry=registry,
        cost=cost,
        loop=loop,
    )
