"""Measures how far tasks want the same shared weights, by layer: the paper's “watershed”."""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.models.base import SHARED

Ballots = dict[str, tuple[int, int]]  # by shared layer: weights that all tasks, or any task, want


def count_ballots(
    votes: Mapping[str, Mapping[str, Tensor]] | None, owner: Mapping[str, str]
) -> Ballots:
    """Return |∩_k B_k| and |∪_k B_k| over all tasks, by shared layer; empty without votes."""
    if not votes:
        return {}
    names = [n for n in owner if owner[n] == SHARED and all(n in vote for vote in votes.values())]
    if not names:
        return {}
    counts = []
    for name in names:
        ballots = torch.stack([vote[name] for vote in votes.values()])
        counts.append(torch.stack([ballots.all(0).sum(), ballots.any(0).sum()]))
    # One transfer for all layers.
    pairs = torch.stack(counts).tolist()
    return {name: (both, either) for name, (both, either) in zip(names, pairs, strict=True)}


def add_ballots(first: Ballots, second: Ballots) -> Ballots:
    """Return the sum by layer of two counts."""
    total = dict(first)
    for name, (both, either) in second.items():
        earlier_both, earlier_either = total.get(name, (0, 0))
        total[name] = (earlier_both + both, earlier_either + either)
    return total


def agreement(ballots: Ballots) -> dict[str, float]:
    """Return |∩_k B_k| / |∪_k B_k| by shared layer, in [0, 1]; 1 means the same weights.

    For two random votes of density d it is d / (2 - d), not 0. A layer that no task wants counts
    as agreed, 1. DiSparse (Sun et al. 2022) plots this curve for two tasks. Its released analysis
    counts weights that exactly two tasks keep, which for more tasks is neither intersection nor
    union, so ours differs there.
    """
    return {name: both / either if either else 1.0 for name, (both, either) in ballots.items()}
