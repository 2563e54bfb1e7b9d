"""Fills a budget with channel units, best first: met from below, and no further block would fit."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.errors import UserError
from trainables.sparsity.masking.channel_units import ChannelUnits, place_in_group

# What one entry of a tensor costs, by name; absent tensors cost nothing. It is 1 for parameters.
# For FLOPs it is a layer's FLOPs divided by its weights, which does not depend on the units kept.
Coefficients = Mapping[str, float]

_Entries = list[tuple[str, int, int]]  # name, dimension, how many


class _Tally:
    """Counts the entries that are kept along every axis, and the cost that follows."""

    def __init__(self, units: ChannelUnits, cost: Coefficients) -> None:
        self._sides: dict[str, list[int]] = {}
        self._cost = cost
        for name in cost:
            sides = list(units.shapes[name])
            for dim, numbers in units.axes.get(name, {}).items():
                sides[dim] = int((numbers < 0).sum())
            self._sides[name] = sides
        self.total = sum(self._value(name) for name in cost)

    def _value(self, name: str) -> float:
        return self._cost[name] * math.prod(self._sides[name])

    def add(self, entries: _Entries) -> float:
        """Add entries (name, dimension, how many) and return what they cost."""
        touched = {name for name, _, _ in entries}
        before = sum(self._value(name) for name in touched)
        for name, dim, count in entries:
            self._sides[name][dim] += count
        added = sum(self._value(name) for name in touched) - before
        self.total += added
        return added

    def remove(self, entries: _Entries) -> None:
        """Undo `add`."""
        self.add([(name, dim, -count) for name, dim, count in entries])


def fill(
    units: ChannelUnits,
    order: Tensor,
    budget: float,
    cost: Coefficients,
    *,
    round_to: int,
) -> Tensor:
    """Return the units to keep, bool by unit: the best that the budget allows.

    order: the units that may be kept, best first, int64. They are taken in blocks of `round_to` of
      the same group, the best of it first (the last block of a group may be smaller), so that a
      layer's channels are a multiple of it. A block's place is the mean place of its units. Once a
      block of a group does not fit, the group is full, so no group's next block would fit.
    budget: in the unit of `cost`. The best block of every group is always kept.
    Raises `UserError` if these alone cost more than the budget.
    """
    block_of, num_blocks, places, first = _blocks(units, order, round_to)
    entries = _entries(units, block_of, num_blocks, cost)
    tally = _Tally(units, cost)
    everything = dense_cost(units, cost)
    slack = 1e-9 * everything  # of sums in another order
    chosen = torch.zeros(num_blocks, dtype=torch.bool)
    for block in first.tolist():
        tally.add(entries[block])
        chosen[block] = True
    if tally.total > budget + slack:
        raise UserError(
            f"`sparsity.target` must leave {round_to} channel{'s' * (round_to > 1)} to every layer "
            "(sparsity.round_to), "
            f"which takes {tally.total / everything:.4f} of the dense network, got a budget "
            f"of {budget / everything:.4f}; lower sparsity.target or sparsity.round_to"
        )
    group_of_block = torch.zeros(num_blocks, dtype=torch.int64)
    group_of_block[block_of[order]] = units.group[order]
    groups, full = group_of_block.tolist(), set()
    for block in places.argsort(stable=True).tolist():
        if chosen[block] or groups[block] in full:
            continue
        tally.add(entries[block])
        if tally.total > budget + slack:
            tally.remove(entries[block])
            full.add(groups[block])
        else:
            chosen[block] = True
    keep = torch.zeros(units.num_units, dtype=torch.bool)
    inside = block_of >= 0
    keep[inside] = chosen[block_of[inside]]
    return keep


def dense_cost(units: ChannelUnits, cost: Coefficients) -> float:
    """Return what the network with all units costs."""
    return sum(each * math.prod(units.shapes[name]) for name, each in cost.items())


def _blocks(units: ChannelUnits, order: Tensor, size: int) -> tuple[Tensor, int, Tensor, Tensor]:
    """Return the block of each unit (-1: none), their number, their places and the first ones."""
    place = torch.arange(len(order))
    group = units.group[order]
    by_group = group.argsort(stable=True)  # within a group the order remains
    within = place_in_group(group[by_group])
    first_of_block = within % size == 0
    number = first_of_block.cumsum(0) - 1
    num_blocks = int(first_of_block.sum())
    block_of = torch.full((units.num_units,), -1, dtype=torch.int64)
    block_of[order[by_group]] = number
    sums = torch.zeros(num_blocks, dtype=torch.float64)
    sums.index_add_(0, number, place[by_group].double())
    sizes = torch.bincount(number, minlength=num_blocks)
    return block_of, num_blocks, sums / sizes, number[within == 0]


def _entries(
    units: ChannelUnits, block_of: Tensor, num_blocks: int, cost: Coefficients
) -> list[_Entries]:
    """Return how many entries each block has along every axis that costs something."""
    entries: list[_Entries] = [[] for _ in range(num_blocks)]
    for name, axes in units.axes.items():
        if name not in cost:
            continue
        for dim, numbers in axes.items():
            blocks = block_of[numbers[numbers >= 0]]
            found, counts = blocks[blocks >= 0].unique(return_counts=True)
            for block, count in zip(found.tolist(), counts.tolist(), strict=True):
                entries[block].append((name, dim, count))
    return entries
