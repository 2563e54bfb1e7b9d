"""What a multitask network owes its callers, of every baseline and with 2, 3 and 5 tasks."""

import dataclasses

import pytest
import torch

from tests.trainables.models.baselines import BASELINES, CHANNELS, CONFIG, build, images
from tests.trainables.sparsity.toys import toy_context
from trainables.cost.flops import forward_flops
from trainables.errors import UserError
from trainables.models.base import SHARED, MultitaskModel, prunable_parameters
from trainables.models.catalogue import build_model
from trainables.sparsity.catalogue import METHODS

each_model = pytest.mark.parametrize("name", BASELINES)
each_count = pytest.mark.parametrize("num_tasks", [2, 3, 5])


@each_model
@each_count
@pytest.mark.parametrize("size", [(16, 16), (33, 47)])
def test_predictions_at_any_size(name: str, num_tasks: int, size: tuple[int, int]) -> None:
    model = build(name, num_tasks)
    cells = tuple(-(-side // 8) for side in size)
    for mode in (True, False):
        predictions = model.train(mode)(torch.rand(2, 3, *size))
        assert {task: tuple(p.shape) for task, p in predictions.items()} == {
            task: (2, CHANNELS[task], *cells) for task in model.tasks
        }
        assert all(p.isfinite().all() for p in predictions.values())


@each_model
def test_only_the_asked_tasks_in_the_asked_order(name: str) -> None:
    model = build(name, 3).eval()
    calls: list[str] = []
    for task, head in model.heads.items():
        head.register_forward_hook(lambda *_, task=task: calls.append(task))
    chosen = model(images(), tasks=["depth", "segmentation"])
    assert list(chosen) == calls == ["depth", "segmentation"]
    everything = model(images())
    assert list(everything) == list(model.tasks)
    for task, prediction in chosen.items():
        torch.testing.assert_close(prediction, everything[task])
    with pytest.raises(UserError, match="unknown task of the model 'edges'; valid: depth, normals"):
        model(images(), tasks=["edges"])


@each_model
@each_count
def test_owners_are_complete(name: str, num_tasks: int) -> None:
    model = build(name, num_tasks)
    assert isinstance(model, MultitaskModel)
    owners = model.owners()
    assert list(owners) == [n for n, _ in model.named_parameters()]
    assert set(owners.values()) == {SHARED, *model.tasks}
    for task in model.tasks:
        assert {owners[n] for n in owners if n.startswith(f"heads.{task}.")} == {task}


@each_model
def test_same_seed_same_weights_and_the_global_generator_stays(name: str) -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = build(name, 2, seed=7).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, other = build(name, 2, seed=7).state_dict(), build(name, 2, seed=8).state_dict()
    assert first.keys() == again.keys()
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert any(not torch.equal(first[n], other[n]) for n in first)


@each_model
def test_state_goes_round(name: str) -> None:
    model = build(name, 3, seed=1).train()
    model(images())  # running statistics move
    copy = build(name, 3, seed=2)
    copy.load_state_dict(model.state_dict())
    expected, got = model.eval()(images()), copy.eval()(images())
    assert all(torch.equal(expected[task], got[task]) for task in model.tasks)


@each_model
def test_evaluation_draws_nothing_and_training_only_where_it_says(name: str) -> None:
    model = build(name)
    before = torch.get_rng_state()
    first, second = model.eval()(images()), model(images())
    assert all(torch.equal(first[task], second[task]) for task in model.tasks)
    assert torch.equal(torch.get_rng_state(), before)
    model.train()(images())
    assert torch.equal(torch.get_rng_state(), before) == (name != "den")


@each_model
def test_a_training_step_reaches_every_parameter(name: str) -> None:
    model = build(name, 3).train()
    torch.manual_seed(0)
    if hasattr(model, "start_step"):
        model.start_step("train", 50)
    loss = sum(p.square().mean() for p in model(images(4)).values())
    if hasattr(model, "auxiliary_loss"):
        loss = loss + model.auxiliary_loss({task: torch.rand(4) for task in model.tasks})
    loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


@each_model
def test_one_value_per_channel_cannot_be_normalised(name: str) -> None:
    model = build(name).train()
    with pytest.raises(UserError, match="at least 2 values per channel"):
        model(torch.rand(1, 3, 8, 8))
    model(torch.rand(1, 3, 8, 9))


@each_model
@pytest.mark.parametrize("num_tasks", [2, 5])
def test_flops_are_traced_without_computing(name: str, num_tasks: int) -> None:
    """The weights are on the meta device: a pass where the model stands could not be checked."""
    model = build(name, num_tasks)
    flops = forward_flops(model, (32, 40))
    assert flops.other == 0
    assert list(flops.layers) == list(prunable_parameters(model))
    assert min(flops.layers.values()) > 0
    assert forward_flops(model.to("meta"), (32, 40)) == flops
    plain = forward_flops(build("deeplab-resnet", num_tasks), (32, 40)).layers
    trunk = sum(f for n, f in plain.items() if n.startswith("backbone."))
    extra = sum(f for n, f in flops.layers.items() if n.startswith(("mixtures.", "selector.")))
    passes = num_tasks * trunk
    if name == "den":  # all passes share the stem
        passes -= (num_tasks - 1) * plain["backbone.conv1.weight"]
    heads = sum(f for n, f in plain.items() if n.startswith("heads."))
    assert flops.dense == passes + heads + extra


# Every method with every model, every method and every model with every number of tasks.
_SPARSE_METHODS = [n for n, m in METHODS.items() if "weight" in m.description.structures]
_COVERING = [
    (name, (2, 3, 5)[(i + j) % 3], method)
    for i, name in enumerate(BASELINES)
    for j, method in enumerate(_SPARSE_METHODS)
]


@pytest.mark.parametrize(("name", "num_tasks", "method"), _COVERING)
def test_every_sparse_method_keeps_exact_counts(name: str, num_tasks: int, method: str) -> None:
    config = dataclasses.replace(CONFIG, name=name, width=4, blocks=(1, 1, 1, 1))
    model = build_model(config, dict.fromkeys("abcde"[:num_tasks], 2), seed=0)
    toy = toy_context(model, sparsity__saliency_batches=1)
    for sparsity in (0.3, 0.9):
        proposal = METHODS[method].prune(toy.context, 1 - sparsity)
        toy.registry.update(proposal.masks, None, proposal.votes)
        assert toy.registry.kept == round((1 - sparsity) * toy.registry.total)
