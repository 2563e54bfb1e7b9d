"""One forward pass gives what one forward pass per task gives, and leaves no trace."""

import pytest
import torch
from torch import Tensor

from tests.trainables.sparsity.toys import Toy, ToyNetwork, random_batch, toy_context
from trainables.sparsity.gradients import joint_gradients, micro_batches, task_gradients
from trainables.sparsity.saliency import initial_weights, joint_saliency, task_saliency

TASKS = ("a", "b", "c")


def separate_gradients(toy: Toy, seed: int, task: str) -> dict[str, Tensor]:
    """The plain way: a fresh network, one forward, one backward."""
    fresh = ToyNetwork(TASKS)
    fresh.load_state_dict(toy.model.state_dict())
    batch = random_batch(seed, TASKS)
    toy.context.tasks[task].loss(fresh(batch.images_BCHW)[task], batch.targets[task]).backward()
    return {n: p.grad for n, p in fresh.named_parameters() if p.grad is not None}


def test_one_forward_equals_one_forward_per_task() -> None:
    passes = []

    class Counting(ToyNetwork):
        def forward(self, images_BCHW, tasks=None):  # type: ignore[no-untyped-def]
            passes.append(tasks)
            return super().forward(images_BCHW, tasks)

    toy = toy_context(Counting(TASKS))
    batch = random_batch(1, TASKS)
    found = dict(task_gradients(toy.context, batch))
    assert len(passes) == 1
    for task in TASKS:
        expected = separate_gradients(toy, 1, task)
        assert tuple(found[task]) == toy.registry.visible(task)
        for name, gradient in found[task].items():
            assert torch.equal(gradient, expected[name]), (task, name)


def test_joint_gradient_is_the_weighted_sum() -> None:
    toy = toy_context(ToyNetwork(TASKS))
    toy.context.loss_weights.update({"a": 1.0, "b": 20.0, "c": 0.5})  # type: ignore[attr-defined]
    batch = random_batch(1, TASKS)
    joint = joint_gradients(toy.context, batch)
    each = dict(task_gradients(toy.context, batch))
    for name in toy.registry.names:
        expected = sum(toy.context.loss_weights[t] * g[name] for t, g in each.items() if name in g)
        torch.testing.assert_close(joint[name], expected, rtol=1e-4, atol=1e-6)


def test_accumulation_averages_the_micro_batches() -> None:
    toy = toy_context(ToyNetwork(TASKS), training__accumulation=2)
    whole = toy_context(ToyNetwork(TASKS))
    batch = random_batch(1, TASKS)
    first, second = micro_batches(batch, 2)
    assert first.images_BCHW.shape[0] == second.targets["a"].shape[0] == 2
    found = dict(task_gradients(toy.context, batch))
    halves = [dict(task_gradients(whole.context, half)) for half in (first, second)]
    joint = joint_gradients(toy.context, batch)
    joint_halves = [joint_gradients(whole.context, half) for half in (first, second)]
    for task in TASKS:
        for name, gradient in found[task].items():
            torch.testing.assert_close(
                gradient, (halves[0][task][name] + halves[1][task][name]) / 2
            )
    for name, gradient in joint.items():
        torch.testing.assert_close(gradient, (joint_halves[0][name] + joint_halves[1][name]) / 2)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("weights", ["actual", "xavier"])
def test_scoring_leaves_no_trace(training: bool, weights: str) -> None:
    model = ToyNetwork(TASKS)
    model(random_batch(9, TASKS).images_BCHW)  # running statistics that are not the initial ones
    model.train(training)
    model.trunk[1].eval()  # a frozen layer stays frozen
    toy = toy_context(model, sparsity__saliency_weights=weights)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    random_state = torch.get_rng_state()
    task_saliency(toy.context, "taylor")
    joint_saliency(toy.context)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None for p in model.parameters())
    assert model.training == training
    assert not model.trunk[1].training
    assert torch.equal(torch.get_rng_state(), random_state)


def test_xavier_scores_other_weights_and_restores_even_after_a_failure() -> None:
    toy = toy_context(ToyNetwork(), sparsity__saliency_weights="xavier")
    before = {n: w.detach().clone() for n, w in toy.registry.parameters.items()}

    def interrupted() -> None:
        with initial_weights(toy.context):
            for name, weight in toy.registry.parameters.items():
                assert not torch.equal(weight, before[name])
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        interrupted()
    for name, weight in toy.registry.parameters.items():
        assert torch.equal(weight, before[name])
    actual = toy_context(ToyNetwork())
    name = toy.registry.names[0]
    drawn = task_saliency(toy.context, "taylor")["a"][name]
    assert not torch.allclose(drawn, task_saliency(actual.context, "taylor")["a"][name])
    # A trained network, and a sparse one, are scored as they are.
    trained = task_saliency(toy.context, "taylor", trained=True)["a"][name]
    assert torch.equal(trained, task_saliency(actual.context, "taylor")["a"][name])


def test_saliencies_sum_over_batches() -> None:
    toy = toy_context(ToyNetwork(TASKS))
    batches = list(toy.context.batches(3))
    weights = toy.registry.parameters
    taylor, published = (task_saliency(toy.context, kind) for kind in ("taylor", "published"))
    magnitude = task_saliency(toy.context, "magnitude")
    joint = joint_saliency(toy.context)
    gradients = [dict(task_gradients(toy.context, b)) for b in batches]
    for task in TASKS:
        for name in toy.registry.visible(task):
            absolute = sum(g[task][name].abs() for g in gradients)
            weight = weights[name].detach()
            torch.testing.assert_close(taylor[task][name], absolute * weight.abs())
            torch.testing.assert_close(published[task][name], absolute * weight**2)
            assert torch.equal(magnitude[task][name], weight.abs())
    for name, weight in weights.items():
        total = sum(joint_gradients(toy.context, b)[name] for b in batches)
        torch.testing.assert_close(joint[name], (total * weight.detach()).abs())


def test_a_compiled_network_is_scored_all_the_same() -> None:
    model = ToyNetwork()
    plain = dict(task_gradients(toy_context(model).context, random_batch(1, ("a", "b"))))
    model.compile(backend="aot_eager")
    compiled = dict(task_gradients(toy_context(model).context, random_batch(1, ("a", "b"))))
    for task, gradients in plain.items():
        assert all(torch.equal(compiled[task][n], g) for n, g in gradients.items())


def test_a_task_without_a_valid_pixel_has_no_gradient() -> None:
    toy = toy_context(ToyNetwork())
    toy.context.tasks["a"].loss = lambda prediction, target: torch.zeros(())  # type: ignore[method-assign]
    found = dict(task_gradients(toy.context, random_batch(1, ("a", "b"))))
    assert all(g.count_nonzero() == 0 for g in found["a"].values())
    assert all(g.count_nonzero() > 0 for g in found["b"].values())


def test_bf16_autocast_scores_in_the_weights_type() -> None:
    toy = toy_context(ToyNetwork(), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    scores = task_saliency(toy.context, "taylor")
    assert all(s.dtype == torch.float32 for s in scores["a"].values())
    assert all(bool(s.isfinite().all()) for s in scores["a"].values())
