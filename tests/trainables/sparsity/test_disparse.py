"""The vote worked by hand, and its closed form against bisection by brute force."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.sparsity.toys import LinearNetwork, SumTask, Toy, toy_context
from trainables.data.batch import Batch
from trainables.errors import UserError
from trainables.models.base import SHARED
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.disparse import settle, votes_required
from trainables.sparsity.selection import TieOrder

# Two tasks, four shared weights, two private ones each; n_a = n_b = 6.
#   a ranks: s0 9 · s1 8 · a0 7 · s2 3 · a1 2 · s3 1
#   b ranks: s3 9 · b0 8 · s1 7 · b1 6 · s2 5 · s0 1
OWNER = {"s": SHARED, "a": "a", "b": "b"}
SCORES = {
    "a": {"s": torch.tensor([9.0, 8, 3, 1]), "a": torch.tensor([7.0, 2])},
    "b": {"s": torch.tensor([1.0, 7, 5, 9]), "b": torch.tensor([8.0, 6])},
}
# Entries in sixths, by arbiter —      s0 s1 s2 s3 | a0 a1 | b0 b1
#   a: 1 2 4 6 | 3 5;  b: 6 3 5 1 | 2 4
#   unanimous (first):                  1  2  4  1 |  3  5 |  2  4
#   intersection (last):                6  3  5  6 |  3  5 |  2  4
EVERYTHING = {"s": torch.ones(4).bool(), "a": torch.ones(2).bool(), "b": torch.ones(2).bool()}


def ties(seed: int = 0) -> TieOrder:
    return TieOrder.drawn(torch.Generator().manual_seed(seed))


def kept(masks: dict[str, Tensor]) -> set[str]:
    return {f"{n}{i}" for n, m in masks.items() for i in m.nonzero().flatten().tolist()}


@pytest.mark.parametrize(
    ("arbiter", "count", "certain", "boundary"),
    [
        ("unanimous", 2, {"s0", "s3"}, set()),
        ("unanimous", 3, {"s0", "s3"}, {"s1", "b0"}),
        ("unanimous", 4, {"s0", "s3", "s1", "b0"}, set()),
        ("unanimous", 6, {"s0", "s3", "s1", "b0", "a0"}, {"s2", "b1"}),
        ("majority", 4, {"s0", "s3", "s1", "b0"}, set()),  # of two tasks: a tie keeps
        ("intersection", 1, {"b0"}, set()),
        ("intersection", 3, {"b0", "s1", "a0"}, set()),
        ("intersection", 5, {"b0", "s1", "a0", "b1"}, {"s2", "a1"}),
        ("unanimous", 0, set(), set()),
        ("intersection", 8, {"s0", "s1", "s2", "s3", "a0", "a1", "b0", "b1"}, set()),
    ],
)
def test_arbiters_by_hand(arbiter: str, count: int, certain: set[str], boundary: set[str]) -> None:
    proposal = settle(list(OWNER), SCORES, OWNER, EVERYTHING, count, arbiter, ties())
    found = kept(proposal.masks)
    assert len(found) == count
    assert certain <= found <= certain | boundary


def test_votes_by_hand() -> None:
    proposal = settle(list(OWNER), SCORES, OWNER, EVERYTHING, 4, "unanimous", ties())
    assert proposal.votes is not None
    assert kept(dict(proposal.votes["a"])) == {"s0", "s1"}  # ρ = 2/6
    assert kept(dict(proposal.votes["b"])) == {"s3", "b0"}


def test_majority_of_three_by_hand() -> None:
    scores = {
        "a": {"s": torch.tensor([3.0, 2, 1])},
        "b": {"s": torch.tensor([1.0, 3, 2])},
        "c": {"s": torch.tensor([3.0, 1, 2])},
    }
    # Ranks a 123, b 312, c 132: second smallest 1, 2, 2 → s0 first.
    everything = {"s": torch.ones(3).bool()}
    proposal = settle(["s"], scores, {"s": SHARED}, everything, 1, "majority", ties())
    assert kept(proposal.masks) == {"s0"}
    assert [votes_required("majority", t) for t in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]


def test_tasks_of_unequal_size_are_cut_at_the_same_fraction() -> None:
    owner = {"a": "a", "b": "b"}
    scores = {"a": {"a": torch.arange(2.0)}, "b": {"b": torch.arange(10.0)}}
    everything = {"a": torch.ones(2).bool(), "b": torch.ones(10).bool()}
    masks = settle(["a", "b"], scores, owner, everything, 6, "unanimous", ties()).masks
    assert (int(masks["a"].sum()), int(masks["b"].sum())) == (1, 5)


def brute_force(
    scores: dict[str, dict[str, Tensor]],
    owner: dict[str, str],
    within: dict[str, Tensor],
    arbiter: str,
    order: TieOrder,
    rho: Fraction,
) -> set[str]:
    """What stays when every task keeps its top ⌊ρ · n_k⌋, straight from the definition."""
    offset, number = 0, {}
    for name, mask in within.items():
        number |= {(name, i): offset + i for i in range(mask.numel())}
        offset += mask.numel()
    ballots = []
    for task_scores in scores.values():
        visible = [(n, i) for n in task_scores for i in range(task_scores[n].numel())]
        visible.sort(
            key=lambda w: (
                bool(within[w[0]][w[1]]),
                float(task_scores[w[0]][w[1]]) if within[w[0]][w[1]] else 0.0,
                int(order.place(torch.tensor([number[w]]))),
            ),
            reverse=True,
        )
        ballots.append(set(visible[: int(rho * len(visible))]))
    need = votes_required(arbiter, len(scores))
    return {
        f"{n}{i}"
        for n, i in number
        if within[n][i] and sum((n, i) in b for b in ballots) >= (need if owner[n] == SHARED else 1)
    }


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_closed_form_equals_brute_force_bisection(data: st.DataObject) -> None:
    num_tasks = data.draw(st.integers(1, 4))
    arbiter = data.draw(st.sampled_from(["unanimous", "majority", "intersection"]))
    tasks = "abcd"[:num_tasks]
    sizes = {"s": data.draw(st.integers(1, 8))} | {t: data.draw(st.integers(1, 5)) for t in tasks}
    owner = {"s": SHARED} | {t: t for t in tasks}
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    spread = data.draw(st.sampled_from([2, 5, 1000]))  # few values: full of ties

    def draw(size: int) -> Tensor:
        return torch.randint(0, spread, (size,), generator=generator).float()

    scores = {t: {"s": draw(sizes["s"]), t: draw(sizes[t])} for t in tasks}
    alive = data.draw(st.sampled_from([1.0, 0.6]))
    within = {n: torch.rand(s, generator=generator) < alive for n, s in sizes.items()}
    count = data.draw(st.integers(0, sum(int(w.sum()) for w in within.values())))
    order = ties(data.draw(st.integers(0, 9)))
    found = kept(settle(list(sizes), scores, owner, within, count, arbiter, order).masks)
    assert len(found) == count
    # Every ρ at which anything can change, and for each what the definition keeps.
    seen = {sizes["s"] + sizes[t] for t in tasks}
    rhos = sorted({Fraction(r, n) for n in seen for r in range(n + 1)})
    levels = [brute_force(scores, owner, within, arbiter, order, rho) for rho in rhos]
    below = max((k for k in levels if len(k) <= count), key=len)
    above = min((k for k in levels if len(k) >= count), key=len)
    assert below <= found <= above
    assert len(above) - len(below) <= max(num_tasks, 1) or len(below) == count


def test_unknown_arbiter() -> None:
    with pytest.raises(UserError, match="valid: intersection, majority, unanimous"):
        votes_required("anarchy", 2)


# A network whose gradients can be read: y_k = h_k · (W x), loss = t_k · y_k.
# ∂L_k/∂W[i, j] = t_k h_k[i] x[j];  ∂L_k/∂h_k[i] = t_k (W x)[i].
SHARED_WEIGHT = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
HEADS = {"a": torch.tensor([[2.0, 0.1]]), "b": torch.tensor([[0.2, 1.0]])}
BATCH = Batch(
    images_BCHW=torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1),
    targets={"a": torch.ones(1, 1), "b": torch.full((1, 1), 10.0)},
)


def test_static_by_hand() -> None:
    toy = toy_context(
        LinearNetwork(SHARED_WEIGHT, HEADS),
        batches=[BATCH],
        task_type=SumTask,
        sparsity__saliency_batches=1,
    )
    # |g·w|, task a: W [[2, 8], [0.3, 0.1]], head [6, 0.4] (W x = [-3, 4]) →
    #   W01 8 · head0 6 · W00 2 · head1 .4 · W10 .3 · W11 .1
    # task b, times 10: W [[2, 8], [30, 10]], head [6, 40] →
    #   head1 40 · W10 30 · W11 10 · W01 8 · head0 6 · W00 2
    proposal = METHODS["disparse-static"].prune(toy.context, 0.5)  # 4 of 8
    masks = proposal.masks
    assert masks["shared.weight"].tolist() == [[False, True], [True, False]]
    assert masks["heads.a.weight"].tolist() == [[True, False]]
    assert masks["heads.b.weight"].tolist() == [[False, True]]
    assert proposal.votes is not None
    assert proposal.votes["a"]["shared.weight"].tolist() == [[False, True], [False, False]]
    assert proposal.votes["b"]["shared.weight"].tolist() == [[False, False], [True, False]]


def test_static_within_each_layer() -> None:
    toy = toy_context(
        LinearNetwork(SHARED_WEIGHT, HEADS),
        batches=[BATCH],
        task_type=SumTask,
        sparsity__saliency_batches=1,
        sparsity__allocation="uniform",
    )
    masks = METHODS["disparse-static"].prune(toy.context, 0.5).masks
    assert masks["shared.weight"].tolist() == [[False, True], [True, False]]
    assert masks["heads.a.weight"].tolist() == [[True, False]]
    assert masks["heads.b.weight"].tolist() == [[False, True]]


def test_magnitude_cannot_tell_tasks_apart_within_a_layer() -> None:
    toy = toy_context(
        LinearNetwork(SHARED_WEIGHT, HEADS), sparsity__score="magnitude",
        sparsity__allocation="uniform",
    )  # fmt: skip
    proposal = METHODS["disparse-pretrained"].prune(toy.context, 0.5)
    assert proposal.votes is not None
    assert proposal.masks["shared.weight"].tolist() == [[False, True], [True, False]]
    assert torch.equal(proposal.votes["a"]["shared.weight"], proposal.votes["b"]["shared.weight"])


def dynamic_toy(budget: str, arbiter: str = "unanimous") -> tuple[Toy, Batch]:
    # One shared layer 1×8, x = the inputs; heads 1×1. g_k = t_k h_k x, so both tasks would rank
    # alike: a batch of two with targets that select one image each pulls them apart.
    model = LinearNetwork(
        torch.tensor([[8.0, 7, 6, 5, 0, 0, 0, 0]]),
        {"a": torch.ones(1, 1), "b": torch.ones(1, 1)},
    )
    toy = toy_context(
        model,
        task_type=SumTask,
        sparsity__arbiter=arbiter,
        regrowth__budget=budget,
    )
    toy.registry.update(
        {
            "shared.weight": torch.tensor([[True] * 4 + [False] * 4]),
            "heads.a.weight": torch.ones(1, 1).bool(),
            "heads.b.weight": torch.ones(1, 1).bool(),
        },
        None,
    )
    batch = Batch(
        images_BCHW=torch.tensor([[0.0, 0, 1, 2, 9, 8, 3, 4], [0.0, 0, 7, 1, 2, 3, 8, 9]]).reshape(
            2, 8, 1, 1
        ),
        targets={"a": torch.tensor([[1.0], [0.0]]), "b": torch.tensor([[0.0], [1.0]])},
    )
    return toy, batch


# Drop 2 of 4 (⌊0.5 · 4⌋): 6 and 5 at places 2, 3. Then a wants 4 5 7 6 …, b wants 7 6 2 5 ….
def test_dynamic_exact_by_hand() -> None:
    toy, batch = dynamic_toy("exact")
    masks = METHODS["disparse-dynamic"].regrow(toy.context, batch, 0.5, 0.6).masks
    assert int(masks["shared.weight"].sum()) == toy.registry.kept_by_layer["shared.weight"] == 4
    assert kept({"": masks["shared.weight"][0]}) == {"0", "1", "4", "7"}  # one first choice each


def test_dynamic_published_overshoots_by_hand_and_returns() -> None:
    toy, batch = dynamic_toy("published")
    proposal = METHODS["disparse-dynamic"].regrow(toy.context, batch, 0.5, 0.6)
    assert kept({"": proposal.masks["shared.weight"][0]}) == {"0", "1", "4", "5", "7", "6"}
    assert proposal.votes is not None  # two each, beside the survivors 0 and 1
    assert kept({"": proposal.votes["a"]["shared.weight"][0]}) == {"4", "5"}
    toy.registry.update(proposal.masks, None)
    assert toy.registry.kept_by_layer["shared.weight"] == 6  # 1.5 × 4
    again = METHODS["disparse-dynamic"].regrow(toy.context, batch, 0.0, 0.6)
    assert int(again.masks["shared.weight"].sum()) == 4


def test_dynamic_intersection_grows_what_both_want() -> None:
    toy, batch = dynamic_toy("exact", arbiter="intersection")
    masks = METHODS["disparse-dynamic"].regrow(toy.context, batch, 0.5, 0.6).masks
    # Ranks a: 4,5,7,6,3,2 → place 7 third; b: 7,6,2,5,4,3. Latest: 7→3, 6→4, 5→4, 4→5, 2→6.
    found = kept({"": masks["shared.weight"][0]})
    assert len(found) == 4
    assert {"0", "1", "7"} < found <= {"0", "1", "7", "6", "5"}


def test_a_dropped_weight_may_be_regrown_and_keeps_its_value() -> None:
    toy, batch = dynamic_toy("exact")
    strong = Batch(
        images_BCHW=torch.tensor([[0.0, 0, 9, 8, 1, 1, 1, 1]] * 2).reshape(2, 8, 1, 1),
        targets=batch.targets,
    )
    masks = METHODS["disparse-dynamic"].regrow(toy.context, strong, 0.5, 0.6).masks
    assert kept({"": masks["shared.weight"][0]}) == {"0", "1", "2", "3"}
    toy.registry.update(masks, None)
    assert toy.registry.parameters["shared.weight"].tolist() == [[8, 7, 6, 5, 0, 0, 0, 0]]
