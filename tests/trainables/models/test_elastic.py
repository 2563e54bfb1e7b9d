"""DEN: reward, policy gradient and masks by hand; the plain network as a special case."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.models.baselines import CHANNELS, CONFIG, build, images
from trainables.models.base import SHARED
from trainables.models.catalogue import build_model
from trainables.models.elastic import (
    draw_levels,
    less_others_mean,
    mixed_policy,
    policy_surrogate,
    reward,
)

FULL, NONE = 3, 0  # indices into LEVELS
NUM_BLOCKS = sum(CONFIG.blocks)


def levels(model: nn.Module, index: int, count: int = 2) -> dict[str, Tensor]:
    return {task: torch.full((count, NUM_BLOCKS), index) for task in model.tasks}


def plain_network(model: nn.Module) -> nn.Module:
    plain = build_model(CONFIG, {task: CHANNELS[task] for task in model.tasks}, seed=9)
    weights = {n: v for n, v in model.state_dict().items() if not n.startswith("selector.")}
    plain.load_state_dict(weights)
    return plain.train(model.training)


@pytest.mark.parametrize(
    ("density", "loss", "expected"),
    [
        (0.5, 0.3, 0.775),  # 0.75 / 10 - 0.3 + 1
        (1.0, 2.0, -1.0),  # a dense image is paid for its loss alone
        (0.0, 0.0, 1.1),  # the most there is
        (0.25, 1.0, 0.09375),
    ],
)
def test_reward_by_hand(density: float, loss: float, expected: float) -> None:
    assert reward(torch.tensor(density), torch.tensor(loss)).item() == pytest.approx(expected)


def test_density_by_hand() -> None:
    """Blocks of 8, 16, 16, 32 and 64 channels at 25, 100, 0, 50 and 0 %: 2 + 16 + 16 of 136."""
    model = build("den")
    density = model.density(torch.tensor([[1, 3, 0, 2, 0], [3] * 5, [0] * 5]))
    assert density.tolist() == pytest.approx([34 / 136, 1.0, 0.0])


def test_every_level_above_zero_keeps_a_channel() -> None:
    model = build("den", width=2, blocks=(1, 1, 1, 1))
    assert model.channels_kept.tolist() == [[0, 1, 1, 2], [0, 1, 2, 4], [0, 2, 4, 8], [0, 4, 8, 16]]


@pytest.mark.parametrize("training", [False, True])
def test_the_full_policy_is_the_plain_network(training: bool) -> None:
    model = build("den", 3).train(training)
    expected = plain_network(model)(images())
    got = model.forward_at(images(), levels(model, FULL))
    for task in model.tasks:
        # Three copies of a batch have its statistics, up to rounding.
        tolerance = {"rtol": 1e-3, "atol": 1e-4} if training else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(got[task], expected[task], **tolerance)


def test_level_zero_skips_the_block() -> None:
    model = build("den").eval()
    chosen = levels(model, FULL)
    for own in chosen.values():
        own[:, 2] = NONE  # the second block of the second stage
    block = model.backbone.blocks[1][1]
    before = model.forward_at(images(), chosen)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    after = model.forward_at(images(), chosen)
    assert all(torch.equal(before[task], after[task]) for task in model.tasks)
    full = model.forward_at(images(), levels(model, FULL))
    assert not torch.allclose(full["normals"], after["normals"])
    # Neither does a skipped block learn.
    sum(p.square().sum() for p in after.values()).backward()
    assert all(float(p.grad.abs().sum()) == 0 for p in block.parameters())


@pytest.mark.parametrize(("level", "kept"), [(1, 4), (2, 8)])
def test_a_level_keeps_a_prefix_of_both_convolutions(level: int, kept: int) -> None:
    model = build("den").eval()
    block = model.backbone.blocks[1][0]  # 16 channels
    chosen = levels(model, FULL)
    for own in chosen.values():
        own[:, 1] = level
    before = model.forward_at(images(), chosen)
    with torch.no_grad():  # the filters after the prefix are out of use, in and out
        block.conv1.weight[kept:].normal_()
        block.conv2.weight[kept:].normal_()
        block.conv2.weight[:, kept:].normal_()
        block.bn2.bias[kept:].normal_()
    after = model.forward_at(images(), chosen)
    assert all(torch.equal(before[task], after[task]) for task in model.tasks)
    with torch.no_grad():  # the last one within it is in use
        block.conv1.weight[kept - 1].neg_()
    assert not torch.equal(model.forward_at(images(), chosen)["normals"], after["normals"])


def test_every_image_and_task_has_its_own_policy() -> None:
    model = build("den").eval()
    generator = torch.Generator().manual_seed(0)
    chosen = {task: torch.randint(4, (3, NUM_BLOCKS), generator=generator) for task in model.tasks}
    together = model.forward_at(images(3), chosen)
    for task, own in chosen.items():
        for i in range(3):
            alone = model.forward_at(images(3)[i : i + 1], {task: own[i : i + 1]})
            torch.testing.assert_close(together[task][i : i + 1], alone[task])


def test_evaluation_takes_the_likeliest_level() -> None:
    model = build("den").eval()
    favourites = {"segmentation": [3, 1, 0, 2, 3], "normals": [2, 2, 2, 0, 1]}
    for task, own in favourites.items():
        bias = torch.zeros(NUM_BLOCKS, 4)
        bias[torch.arange(NUM_BLOCKS), own] = 5.0
        model.selector.outputs[task].bias.data = bias.flatten()
    expected = model.forward_at(
        images(), {task: torch.tensor([own, own]) for task, own in favourites.items()}
    )
    got = model(images())
    assert all(torch.equal(got[task], expected[task]) for task in model.tasks)


def test_training_draws_from_the_global_generator() -> None:
    model = build("den").train()
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(images())["normals"])
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_exploration_decays_with_the_steps_of_training() -> None:
    model = build("den")
    assert float(model.exploration) == 1.0
    for phase, step, expected in (
        ("train", 0, 1.0),
        ("train", 1, 0.99),
        ("train", 100, 0.99**100),
        ("pretrain", 100, 1.0),
    ):
        model.start_step(phase, step)
        assert float(model.exploration) == pytest.approx(expected)


def test_mixed_policy_by_hand() -> None:
    logits = torch.tensor([[[math.log(3.0), 0.0]]])  # 3/4 and 1/4
    assert mixed_policy(logits, 0.0).flatten().tolist() == pytest.approx([0.75, 0.25])
    assert mixed_policy(logits, 0.4).flatten().tolist() == pytest.approx([0.65, 0.35])
    assert mixed_policy(logits, 1.0).flatten().tolist() == pytest.approx([0.5, 0.5])


def test_draws_follow_the_policy() -> None:
    torch.manual_seed(0)
    policy = torch.tensor([0.1, 0.2, 0.0, 0.7]).expand(40_000, 1, 4)
    counts = draw_levels(policy).flatten().bincount(minlength=4)
    for count, probability in zip(counts.tolist(), (0.1, 0.2, 0.0, 0.7), strict=True):
        deviation = math.sqrt(40_000 * probability * (1 - probability))
        assert abs(count - 40_000 * probability) <= 4 * deviation
    sure = torch.eye(4).reshape(4, 1, 4)
    for _ in range(50):
        assert draw_levels(sure).flatten().tolist() == [0, 1, 2, 3]


def test_baseline_by_hand() -> None:
    assert less_others_mean(torch.tensor([1.0, 2.0, 6.0])).tolist() == [-3.0, -1.5, 4.5]
    assert less_others_mean(torch.tensor([2.5])).tolist() == [2.5]


# Not `st.floats`: with denormals flushed, as in all tests, hypothesis refuses ranges around 0.
finite = st.integers(-300, 300).map(lambda hundredths: hundredths / 100)


@settings(max_examples=30, deadline=None)
@given(
    logits=st.lists(st.tuples(finite, finite), min_size=1, max_size=3),
    rewards=st.lists(st.tuples(finite, finite), min_size=3, max_size=3),
    exploration=st.integers(0, 20).map(lambda twentieths: twentieths / 20),
)
def test_the_expected_policy_gradient_is_the_closed_form(
    logits: list[tuple[float, float]], rewards: list[tuple[float, float]], exploration: float
) -> None:
    """One block, two actions, an image or more: all outcomes enumerated, none drawn.

    With π = softmax(logits) and the actions drawn from b = ε/2 + (1 − ε) π,
    ∂E[R]/∂logit₀ = (1 − ε) π₀ π₁ (R₀ − R₁), and its negative for logit₁. The baseline must not
    show in it.
    """
    count = len(logits)
    table_BL = torch.tensor(rewards[:count], dtype=torch.float64)
    parameter_BL = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected_gradient = torch.zeros_like(parameter_BL)
    for actions in itertools.product(range(2), repeat=count):
        policy_BL = mixed_policy(parameter_BL[:, None], exploration)[:, 0]
        chosen_B = policy_BL[torch.arange(count), list(actions)]
        surrogate = policy_surrogate(chosen_B.log(), table_BL[torch.arange(count), list(actions)])
        (gradient,) = torch.autograd.grad(surrogate, parameter_BL)
        expected_gradient += chosen_B.prod().detach() * gradient
    soft = parameter_BL.detach().softmax(dim=-1)
    slope = (1 - exploration) * soft[:, 0] * soft[:, 1] * (table_BL[:, 0] - table_BL[:, 1])
    closed_form = -torch.stack([slope, -slope], dim=-1) / count  # a loss, a mean over images
    torch.testing.assert_close(expected_gradient, closed_form, rtol=1e-7, atol=1e-9)

    def minus_mean_reward(values: Tensor) -> float:
        policy = mixed_policy(values[:, None], exploration)[:, 0]
        return -float((policy * table_BL).sum(dim=-1).mean())

    step = 1e-6
    for i in range(count):
        bumped = parameter_BL.detach().clone()
        bumped[i, 0] += step
        higher = minus_mean_reward(bumped)
        bumped[i, 0] -= 2 * step
        difference = (higher - minus_mean_reward(bumped)) / (2 * step)
        assert expected_gradient[i, 0].item() == pytest.approx(difference, abs=1e-7)


def test_the_models_policy_gradient_by_hand() -> None:
    """The bias of a selector's output: −mean (R − others) Σ (1 − ε) π_a (1[a] − π) / b_a."""
    model = build("den", 2).train()
    model.start_step("train", 30)
    torch.manual_seed(3)
    model(images(3))
    logits = {t: v.detach() for t, v in model.selector(images(3), model.tasks).items()}
    torch.manual_seed(3)  # the same draws, read off
    chosen = {t: draw_levels(mixed_policy(v, model.exploration)) for t, v in logits.items()}
    losses = {"segmentation": torch.tensor([0.2, 1.0, 3.0]), "normals": torch.tensor([0.1, 0.4, 0])}
    model.auxiliary_loss(losses).backward()
    epsilon = 0.99**30
    for task, levels_BK in chosen.items():
        rewards = reward(model.density(levels_BK), losses[task])
        expected = torch.zeros(NUM_BLOCKS, 4)
        for i, block in itertools.product(range(3), range(NUM_BLOCKS)):
            soft = logits[task][i, block].softmax(dim=-1)
            action = int(levels_BK[i, block])
            advantage = rewards[i] - (rewards.sum() - rewards[i]) / 2
            one_hot = torch.eye(4)[action]
            drawn_with = epsilon / 4 + (1 - epsilon) * soft[action]
            slope = (1 - epsilon) * soft[action] * (one_hot - soft) / drawn_with
            expected[block] -= advantage * slope / 3
        got = model.selector.outputs[task].bias.grad.reshape(NUM_BLOCKS, 4)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_the_two_gradients_stay_apart() -> None:
    """Tasks teach trunk and heads, the reward teaches the selector."""
    for auxiliary in (False, True):
        model = build("den").train()
        model.start_step("train", 200)
        predictions = model(images())
        if auxiliary:
            model.auxiliary_loss({task: torch.rand(2) for task in model.tasks}).backward()
        else:
            sum(p.square().sum() for p in predictions.values()).backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == (name.startswith("selector.") == auxiliary), name


def test_uniform_exploration_teaches_the_selector_nothing() -> None:
    model = build("den").train()
    model.start_step("train", 0)
    model(images())
    model.auxiliary_loss({task: torch.tensor([0.0, 5.0]) for task in model.tasks}).backward()
    for parameter in model.selector.parameters():
        assert float(parameter.grad.abs().sum()) == 0


@pytest.mark.parametrize("favourite", [NONE, FULL])
def test_the_selector_learns_what_pays(favourite: int) -> None:
    """Where a loss grows (or falls) with density by more than the bonus, levels follow."""
    model = build("den", 2, width=4, blocks=(1, 1), strides=(2, 2), dilations=(1, 1)).train()
    optimiser = torch.optim.Adam(model.selector.parameters(), lr=0.01)
    torch.manual_seed(0)
    for step in range(80):
        model.start_step("train", 200 + step)
        optimiser.zero_grad()
        model(images(8, size=16, seed=step))
        density = {task: drawn.density_B for task, drawn in model._drawn.items()}
        sign = 1 if favourite == NONE else -1
        model.auxiliary_loss({task: sign * own for task, own in density.items()}).backward()
        optimiser.step()
    for logits_BKL in model.selector(images(4, size=16, seed=999), model.tasks).values():
        assert set(logits_BKL.argmax(dim=-1).flatten().tolist()) == {favourite}


def test_an_impossible_draw_has_a_finite_gradient() -> None:
    model = build("den").train()
    model.start_step("train", 100_000)  # ε underflows
    for output in model.selector.outputs.values():
        output.bias.data.reshape(NUM_BLOCKS, 4)[:, 3] = -1e4
        output.bias.data.reshape(NUM_BLOCKS, 4)[:, 0] = 1e4
    model(images())
    loss = model.auxiliary_loss({task: torch.rand(2) for task in model.tasks})
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.selector.parameters())


def test_owners() -> None:
    owners = build("den", 3).owners()
    assert owners["selector.outputs.depth.weight"] == owners["heads.depth.branches.0.conv1.bias"]
    assert owners["selector.outputs.depth.bias"] == "depth"
    shared = [name for name, owner in owners.items() if owner == SHARED]
    assert {name.split(".")[0] for name in shared} == {"backbone", "selector"}
