"""Defines channel units: which entries of which tensors are kept or taken out together.

A unit is a set of tied channels: rows of the layers that compute them, the entries of their
normalisation and biases, and the columns of every layer that reads them. Units are numbered
from 0. Every dimension of a tensor along which channels run has the number of the unit at each
position, or `FIXED` for a channel that is never taken out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.errors import UserError

FIXED = -1
Axes = Mapping[str, Mapping[int, Tensor]]  # by tensor name, then by dimension: int64 unit numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelUnits:
    """Holds the channel units of one network.

    axes: of parameters and buffers. Weights are masked along all of a tensor's axes.
    rows: names of the weights that compute channels, with the dimension of their outputs.
    group: the group of each unit, int64; units of a group are interchangeable channels.
    groups: the name of each group, which is the layer that computes its channels.
    shapes: of all parameters, by name.
    left_dense: layers whose channels cannot be taken out, each with the reason.
    """

    axes: Axes
    rows: Mapping[str, int]
    group: Tensor
    groups: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    left_dense: Mapping[str, str]

    @property
    def num_units(self) -> int:
        """Return how many units there are."""
        return len(self.group)

    def companions(self, weights: Sequence[str]) -> list[str]:
        """Return the parameters other than `weights` that units hold: biases, normalisation."""
        return [name for name in self.axes if name in self.shapes and name not in set(weights)]

    def positions(self, keep: Tensor, name: str) -> dict[int, Tensor]:
        """Return the positions that stay along each axis of a tensor, by dimension, on the CPU.

        keep: bool by unit; so are the positions, by channel.
        """
        extended = torch.cat([keep.cpu(), torch.ones(1, dtype=torch.bool)])  # FIXED is the last
        return {dim: extended[units] for dim, units in self.axes.get(name, {}).items()}

    def masks(self, keep: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return the masks (bool, on the CPU) of tensors under `keep`, bool by unit."""
        masks = {}
        for name in names:
            shape = self.shapes[name]
            mask = torch.ones(shape, dtype=torch.bool)
            for dim, stays in self.positions(keep, name).items():
                view = [1] * len(shape)
                view[dim] = -1
                mask &= stays.reshape(view)
            masks[name] = mask
        return masks

    def kept(self, masks: Mapping[str, Tensor]) -> Tensor:
        """Return which units the masks of weights keep, bool by unit, on the CPU.

        Raises `UserError`, naming the tensor, if a mask keeps a part of a unit.
        """
        keep = torch.zeros(self.num_units + 1, dtype=torch.bool)
        for name, mask in masks.items():
            for dim, units in self.axes.get(name, {}).items():
                others = [d for d in range(mask.dim()) if d != dim]
                keep[units[mask.any(dim=others).cpu()]] = True
        keep = keep[:-1]
        for name, expected in self.masks(keep, [n for n in masks if n in self.axes]).items():
            if not torch.equal(masks[name].cpu(), expected):
                raise UserError(
                    f"masks of structure channel must keep or prune whole channels, but that of "
                    f"`{name}` keeps a part of one; let the rule call `context.structure`"
                )
        return keep

    def sums(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of the scores of each unit's weights, float64 on the CPU.

        A weight between two units counts for both.
        """
        total = torch.zeros(self.num_units + 1, dtype=torch.float64)
        for name, score in scores.items():
            for dim, units in self.axes.get(name, {}).items():
                others = [d for d in range(score.dim()) if d != dim]
                along = score.detach().double().sum(dim=others)
                total.index_add_(0, units.where(units >= 0, self.num_units), along.cpu())
        return total[:-1]

    def num_parameters(self, keep: Tensor) -> int:
        """Return how many parameters the network has without the pruned units."""
        total = 0
        for name, shape in self.shapes.items():
            sides = list(shape)
            for dim, stays in self.positions(keep, name).items():
                sides[dim] = int(stays.sum())
            total += math.prod(sides)
        return total


def place_in_group(groups: Tensor) -> Tensor:
    """Return the place, from 0, of each entry among those of its group; `groups` is sorted."""
    return torch.arange(len(groups)) - torch.searchsorted(groups, groups)
