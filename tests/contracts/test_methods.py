"""Every method through the same contract: exact counts, nesting, same seed → same masks."""

import copy
import math

import pytest
import torch
from torch import Tensor

from tests.trainables.sparsity.toys import Toy, ToyNetwork, random_batch, toy_context
from trainables.config import ALLOCATIONS, ARBITERS, SCORES
from trainables.errors import UserError
from trainables.sparsity.agreement import agreement, count_ballots
from trainables.sparsity.allocation import regrow_budget, target_count
from trainables.sparsity.catalogue import METHODS, get_method
from trainables.sparsity.structures.voting import votes_required

SPARSE = [name for name, method in METHODS.items() if "weight" in method.description.structures]
REGROWING = [name for name, method in METHODS.items() if method.regrows]
SPARSITIES = [0.0, 0.3, 0.5, 0.9, 0.99, 0.999]


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[n], second[n]) for n in first)


def prune(toy: Toy, method: str, sparsity: float) -> None:
    proposal = METHODS[method].prune(toy.context, 1 - sparsity)
    toy.registry.update(proposal.masks, None, votes=proposal.votes)


def test_registry_names_and_words() -> None:
    assert list(METHODS) == [method.name for method in METHODS.values()]
    described = [method.description for method in METHODS.values()]
    assert all(method.summary and method.paper for method in described)
    with pytest.raises(UserError, match=r"'riggl'\. Did you mean 'rigl'\? Valid: .*snip"):
        get_method("riggl")


@pytest.mark.parametrize("tasks", [("a", "b"), ("a", "b", "c")], ids=["two", "three"])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("method", SPARSE)
def test_kept_is_exact(method: str, allocation: str, tasks: tuple[str, ...]) -> None:
    for sparsity in SPARSITIES:
        toy = toy_context(
            ToyNetwork(tasks), sparsity__allocation=allocation, sparsity__saliency_batches=1
        )
        prune(toy, method, sparsity)
        assert toy.registry.kept == round((1 - sparsity) * toy.registry.total)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("arbiter", ARBITERS)
def test_kept_is_exact_for_every_arbiter_and_score(arbiter: str, score: str) -> None:
    for method in ("disparse-static", "disparse-pretrained"):
        toy = toy_context(
            ToyNetwork(("a", "b", "c")), sparsity__arbiter=arbiter, sparsity__score=score
        )
        prune(toy, method, 0.9)
        assert toy.registry.kept == round((1 - 0.9) * toy.registry.total)


def test_dense_keeps_everything() -> None:
    toy = toy_context(ToyNetwork())
    prune(toy, "dense", 0.9)
    assert toy.registry.kept == toy.registry.total


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("method", SPARSE)
def test_gradual_levels_nest_exactly(method: str, allocation: str) -> None:
    toy = toy_context(
        ToyNetwork(),
        sparsity__allocation=allocation,
        sparsity__schedule="cubic",
        sparsity__saliency_batches=1,
    )
    before = toy.registry.keep()
    for sparsity in (0.2, 0.5, 0.55, 0.9, 0.9, 0.99):
        prune(toy, method, sparsity)
        assert toy.registry.kept == round((1 - sparsity) * toy.registry.total)
        now = toy.registry.keep()
        assert all(not bool((now[n] & ~before[n]).any()) for n in now)
        before = now


@pytest.mark.parametrize("method", SPARSE)
def test_the_seed_decides(method: str) -> None:
    masks = []
    for seed in (0, 0, 1):
        toy = toy_context(ToyNetwork(), seed=seed, sparsity__saliency_weights="xavier")
        prune(toy, method, 0.8)
        masks.append(toy.registry.keep())
    assert_same(masks[0], masks[1])
    # Another seed draws another random mask, and another network to score.
    trained = METHODS[method].needs_pretraining and method != "random-pretrained"
    if not trained and method != "gmp":  # these rank the weights there are: ties alone are drawn
        assert any(not torch.equal(masks[0][n], masks[2][n]) for n in masks[0])


@pytest.mark.parametrize("method", SPARSE)
def test_a_rule_leaves_model_and_masks_alone(method: str) -> None:
    toy = toy_context(ToyNetwork())
    before = copy.deepcopy(toy.model.state_dict())
    METHODS[method].prune(toy.context, 0.1)
    assert_same(toy.model.state_dict(), before)
    assert toy.registry.kept == toy.registry.total


@pytest.mark.parametrize("tasks", [("a", "b"), ("a", "b", "c")], ids=["two", "three"])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("method", REGROWING)
def test_regrowing_keeps_every_layers_count(
    method: str, allocation: str, tasks: tuple[str, ...]
) -> None:
    for sparsity in (0.0, 0.5, 0.9, 0.999):
        toy = toy_context(ToyNetwork(tasks), sparsity__allocation=allocation)
        prune(toy, method, sparsity)
        counts, masks = toy.registry.kept_by_layer, toy.registry.keep()
        for step, fraction in enumerate((0.5, 0.3, 0.0, 1.0)):
            batch = random_batch(step, tasks)
            proposal = METHODS[method].regrow(toy.context, batch, fraction, 1 - sparsity)
            toy.registry.update(proposal.masks, None)
            assert toy.registry.kept_by_layer == counts
            if fraction == 0.0:
                assert_same(toy.registry.keep(), masks)
            masks = toy.registry.keep()


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("method", REGROWING)
def test_regrowing_follows_a_moving_target(method: str, allocation: str) -> None:
    toy = toy_context(ToyNetwork(), sparsity__allocation=allocation, sparsity__schedule="cubic")
    for step, density in enumerate((0.6, 0.4, 0.1)):
        # Both orders must work: the target may move at a pruning or at a regrowth.
        if step != 1:
            prune(toy, method, 1 - density)
        expected = regrow_budget(allocation, toy.registry, density)
        batch = random_batch(step, ("a", "b"))
        proposal = METHODS[method].regrow(toy.context, batch, 0.3, density)
        toy.registry.update(proposal.masks, None)
        assert toy.registry.kept == target_count(density, toy.registry.total)
        assert toy.registry.kept_by_layer == expected


def test_published_budget_overshoots_shared_layers_only_and_comes_back() -> None:
    toy = toy_context(ToyNetwork(), sparsity__allocation="erk", regrowth__budget="published")
    method = METHODS["disparse-dynamic"]
    prune(toy, "disparse-dynamic", 0.9)
    counts = toy.registry.kept_by_layer
    toy.registry.update(
        method.regrow(toy.context, random_batch(1, ("a", "b")), 0.5, 0.1).masks, None
    )
    for name, kept in toy.registry.kept_by_layer.items():
        if toy.registry.owner[name] == "shared":
            assert counts[name] <= kept <= math.ceil(1.5 * counts[name])
        else:
            assert kept == counts[name]
    assert toy.registry.kept > sum(counts.values())
    toy.registry.update(
        method.regrow(toy.context, random_batch(2, ("a", "b")), 0.0, 0.1).masks, None
    )
    assert toy.registry.kept_by_layer == counts


@pytest.mark.parametrize("tasks", [("a", "b"), ("a", "b", "c")], ids=["two", "three"])
@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("arbiter", ARBITERS)
def test_published_budget_between_the_prunings_of_a_gradual_schedule(
    arbiter: str, allocation: str, tasks: tuple[str, ...]
) -> None:
    toy = toy_context(
        ToyNetwork(tasks),
        sparsity__allocation=allocation,
        sparsity__arbiter=arbiter,
        sparsity__schedule="cubic",
        regrowth__budget="published",
    )
    method, total = METHODS["disparse-dynamic"], toy.registry.total
    undershot = False
    # The target moves less than disagreeing tasks undershoot it: the third pruning finds too few.
    for step, density in enumerate((0.6, 0.5, 0.49, 0.2)):
        before, wanted = toy.registry.kept, target_count(density, total)
        prune(toy, "disparse-dynamic", 1 - density)
        undershot |= before < wanted
        assert toy.registry.kept == min(before, wanted)
        proposal = method.regrow(toy.context, random_batch(step, tasks), 0.5, density)
        toy.registry.update(proposal.masks, None)
        most = (1 + 0.5 * (len(tasks) - 1)) * wanted
        assert wanted - 0.5 * wanted <= toy.registry.kept <= most + len(toy.registry.names)
    # Only where a shared weight needs several votes.
    assert undershot == (votes_required(arbiter, len(tasks)) > 1)


@pytest.mark.parametrize("method", ["disparse-static", "disparse-dynamic", "disparse-pretrained"])
def test_votes_explain_the_masks(method: str) -> None:
    tasks = ("a", "b", "c")
    toy = toy_context(ToyNetwork(tasks), sparsity__allocation="erk")
    proposal = METHODS[method].prune(toy.context, 0.2)
    if method == "disparse-dynamic":
        toy.registry.update(proposal.masks, None)
        proposal = METHODS[method].regrow(toy.context, random_batch(0, tasks), 0.5, 0.2)
    before = toy.registry.keep()
    assert proposal.votes is not None
    assert set(proposal.votes) == set(tasks)
    for name in toy.registry.names:
        ballots = [v[name] for v in proposal.votes.values() if name in v]
        union = torch.stack(ballots).any(0)
        # Kept weights were wanted; of the wanted, all but the settled boundary are kept. A
        # regrowing method votes on growing alone, so its survivors need no vote.
        unwanted = proposal.masks[name] & ~union
        if method == "disparse-dynamic":
            unwanted &= ~before[name]
        assert not bool(unwanted.any())
        assert int((union & ~proposal.masks[name]).sum()) < len(tasks)
    by_layer = agreement(count_ballots(proposal.votes, toy.registry.owner))
    assert set(by_layer) == {n for n, o in toy.registry.owner.items() if o == "shared"}
    assert all(0 <= v <= 1 for v in by_layer.values())


@pytest.mark.parametrize("method", ["disparse-static", "snip"])
def test_a_diverged_network_is_an_error_that_names_the_tensor(method: str) -> None:
    toy = toy_context(ToyNetwork())
    with torch.no_grad():
        toy.registry.parameters["heads.b.1.weight"].fill_(torch.inf)
    with pytest.raises(FloatingPointError, match="must be finite"):
        METHODS[method].prune(toy.context, 0.5)
