"""The vote's closed form against bisection by brute force; by hand in tests/worked."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.training.emulated_graphs import NoLooks
from trainables.errors import UserError
from trainables.models.base import SHARED
from trainables.sparsity.selection import TieOrder
from trainables.sparsity.structures import voting
from trainables.sparsity.structures.voting import (
    first_to_enter,
    first_to_enter_unseen,
    settle,
    votes_required,
)


def ties(seed: int = 0) -> TieOrder:
    return TieOrder.drawn(torch.Generator().manual_seed(seed))


def kept(masks: dict[str, Tensor]) -> set[str]:
    return {f"{n}{i}" for n, m in masks.items() for i in m.nonzero().flatten().tolist()}


def test_majority_of_three_by_hand() -> None:
    scores = {
        "a": {"s": torch.tensor([3.0, 2, 1])},
        "b": {"s": torch.tensor([1.0, 3, 2])},
        "c": {"s": torch.tensor([3.0, 1, 2])},
    }
    # Ranks a 123, b 312, c 132: second smallest 1, 2, 2 → s0 first.
    everything = {"s": torch.ones(3).bool()}
    proposal = settle(["s"], scores, everything, 1, "majority", ties())
    assert kept(proposal.masks) == {"s0"}
    assert [votes_required("majority", t) for t in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]


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
    proposal = settle(list(sizes), scores, within, count, arbiter, order)
    with pytest.MonkeyPatch.context() as patch:  # as on a GPU
        patch.setattr(voting, "first_to_enter", voting.first_to_enter_unseen)
        unseen = settle(list(sizes), scores, within, count, arbiter, order)
    assert all(torch.equal(unseen.masks[n], m) for n, m in proposal.masks.items())
    for task, votes in (proposal.votes or {}).items():
        assert all(torch.equal(unseen.votes[task][n], v) for n, v in votes.items())
    found = kept(proposal.masks)
    assert len(found) == count
    # Every ρ at which anything can change, and for each what the definition keeps.
    seen = {sizes["s"] + sizes[t] for t in tasks}
    rhos = sorted({Fraction(r, n) for n in seen for r in range(n + 1)})
    levels = [brute_force(scores, owner, within, arbiter, order, rho) for rho in rhos]
    below = max((k for k in levels if len(k) <= count), key=len)
    above = min((k for k in levels if len(k) >= count), key=len)
    assert below <= found <= above
    assert len(above) - len(below) <= max(num_tasks, 1) or len(below) == count


def test_the_last_to_enter_is_settled_without_a_look() -> None:
    entry = torch.tensor(
        [0.25, 0.5, torch.inf, 0.5, 0.125, 0.5, 0.75, torch.inf], dtype=torch.float64
    )
    for count in range(7):
        for seed in range(20):
            expected, last = first_to_enter(entry, count, ties(seed), 3)
            with NoLooks():
                found, at = first_to_enter_unseen(entry, count, ties(seed), 3)
            assert torch.equal(found, expected)
            assert int(found.sum()) == count
            assert torch.equal(at, last)


def test_unknown_arbiter() -> None:
    with pytest.raises(UserError, match="valid: intersection, majority, unanimous"):
        votes_required("anarchy", 2)
