"""Every method on every network it applies to, through whole trials: exact counts, zeros, seeds.

A sparse method prunes any network that says which weights are shared, so it runs on all of
them; the dense systems (cross-stitch, sluice, den) are networks, and run on their own.
"""

import pytest
import torch

from tests.contracts.conftest import MicroTrial
from trainables.config import TrialConfig
from trainables.registry.lookup import implementation
from trainables.registry.models import MODELS
from trainables.sparsity.catalogue import METHODS
from trainables.training.trial import TrialRun

SPARSE = [name for name, method in METHODS.items() if "weight" in method.description.structures]
DENSE = [
    name for name, method in METHODS.items() if not (method.sparse or method.description.scales)
]
SPARSITIES = (0.3, 0.5, 0.7, 0.9, 0.99)
GRID = [(tasks, sparsity) for tasks in (2, 3, 5) for sparsity in SPARSITIES]
OTHER_MODELS = [name for name in MODELS if name != "deeplab-resnet"]


def assert_zeros(run: TrialRun) -> None:
    """Where the mask is 0, so are the weight, its gradient and every moment of the optimiser."""
    for name, weight in run.registry.parameters.items():
        pruned = run.registry.masks[name] == 0
        state = run.loop.optimiser.state.get(weight, {})
        moments = [value for value in state.values() if value.shape == weight.shape]
        for values in (weight.detach(), weight.grad, *moments):
            assert values is None or not bool(values[pruned].any()), name


def trained(config: TrialConfig) -> TrialRun:
    """The run at its last step, watched after each."""
    run = TrialRun(config, device="cpu")
    while run.loop.step < config.training.steps:
        run.loop.advance()
        assert_zeros(run)
    return run


def assert_exact(run: TrialRun, sparsity: float) -> None:
    registry = run.registry
    assert registry.kept == round((1 - sparsity) * registry.total)
    assert registry.kept == sum(int(mask.sum()) for mask in registry.masks.values())


@pytest.mark.parametrize(("num_tasks", "sparsity"), GRID)
@pytest.mark.parametrize("method", SPARSE)
def test_kept_counts_are_exact(
    micro_trial: MicroTrial, method: str, num_tasks: int, sparsity: float
) -> None:
    run = trained(micro_trial(method, num_tasks=num_tasks, sparsity=sparsity))
    assert len(run.tasks) == num_tasks
    assert_exact(run, sparsity)


@pytest.mark.parametrize("model", OTHER_MODELS)
@pytest.mark.parametrize("method", SPARSE)
def test_sparse_methods_on_the_other_networks(
    micro_trial: MicroTrial, method: str, model: str
) -> None:
    run = trained(micro_trial(method, sparsity=0.9, overrides={"model.name": model}))
    assert type(run.model) is implementation(MODELS[model].implementation, "model")
    assert_exact(run, 0.9)


@pytest.mark.parametrize("num_tasks", [2, 3, 5])
@pytest.mark.parametrize("method", DENSE)
def test_dense_systems_keep_every_weight(
    micro_trial: MicroTrial, method: str, num_tasks: int
) -> None:
    # A sparsity is no use to them, and is ignored.
    run = trained(micro_trial(method, num_tasks=num_tasks, sparsity=0.9, steps=2))
    described = MODELS["deeplab-resnet" if method == "dense" else method]
    assert type(run.model) is implementation(described.implementation, "model")
    assert run.registry.kept == run.registry.total
    assert all(bool((weight != 0).any()) for weight in run.registry.parameters.values())


@pytest.mark.parametrize("method", [*SPARSE, *DENSE])
def test_the_seed_decides_masks_and_weights(micro_trial: MicroTrial, method: str) -> None:
    runs = [trained(micro_trial(method, seed=seed, steps=3)) for seed in (0, 0, 1)]
    states = [{**run.model.state_dict(), **run.registry.masks} for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    masks = [torch.cat([mask.flatten() for mask in run.registry.masks.values()]) for run in runs]
    assert torch.equal(masks[0], masks[1])
    if method in SPARSE:
        assert not torch.equal(masks[0], masks[2])
