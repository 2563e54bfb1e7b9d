"""Tries which units can be taken out of a network without a change of its outputs."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.base import prunable_parameters
from trainables.models.copies import copy_of
from trainables.sparsity.masking.channel_units import FIXED, ChannelUnits
from trainables.sparsity.structures.compaction import without_units

_TOLERANCE = 1e-4  # of the largest output, in float32
_BROKEN = "the network counts on the number of its channels"


def predictions(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Return the outputs of all tasks for images (B, 3, height, width)."""
    return list(model(image).values())


def _with_masks(trial: nn.Module, units: ChannelUnits) -> ChannelUnits:
    """Return the units whose masks show whether they are kept: those beside a prunable weight."""
    shown = torch.zeros(units.num_units + 1, dtype=torch.bool)
    for name in prunable_parameters(trial):
        for numbers in units.axes.get(name, {}).values():
            shown[numbers] = True
    unseen = set(units.group[~shown[:-1]].tolist())
    good = [group for group in range(len(units.groups)) if group not in unseen]
    return _only(units, good, "no layer beside it has weights that are pruned") if unseen else units


def removable(trial: nn.Module, units: ChannelUnits, image: Tensor) -> ChannelUnits:
    """Return the units whose removal changes nothing but the network's size.

    All groups are tried together first; those that fail together are tried in halves. Units beside
    which no weight is pruned are left out too: no mask would show whether they are kept.

    trial: the network in evaluation mode, with random weights. image: (1, 3, height, width).
    Raises `UserError` if groups can be taken out one by one but not together.
    """
    units = _with_masks(trial, units)
    good = _agreeing(trial, units, image, list(range(len(units.groups))))
    if len(good) == len(units.groups):
        return units
    kept = _only(units, good, _BROKEN)
    if kept.num_units and not _agrees(trial, kept, _half(kept), image):
        raise UserError(
            f"structure channel must be able to follow the channels of {type(trial).__name__}, but "
            "taking out channels of several layers at once changes its outputs; use "
            "sparsity.structure=weight"
        )
    return kept


def _agreeing(trial: nn.Module, units: ChannelUnits, image: Tensor, groups: list[int]) -> list[int]:
    """Return those of the groups whose units can be taken out."""
    if not groups:
        return []
    chosen = torch.zeros(len(units.groups), dtype=torch.bool)
    chosen[groups] = True
    if _agrees(trial, units, _half(units) | ~chosen[units.group], image):
        return groups
    if len(groups) == 1:
        return []
    middle = len(groups) // 2
    return [
        *_agreeing(trial, units, image, groups[:middle]),
        *_agreeing(trial, units, image, groups[middle:]),
    ]


def _half(units: ChannelUnits) -> Tensor:
    """Return a choice of half of every group's units, at least one."""
    generator = torch.Generator().manual_seed(0)
    keep = torch.zeros(units.num_units, dtype=torch.bool)
    for group in range(len(units.groups)):
        members = (units.group == group).nonzero().reshape(-1)
        drawn = torch.randperm(len(members), generator=generator)
        keep[members[drawn[: -(-len(members) // 2)]]] = True
    return keep


@torch.no_grad()
def _agrees(trial: nn.Module, units: ChannelUnits, keep: Tensor, image: Tensor) -> bool:
    """Return whether the network without units computes what it computes with them at zero."""
    masked = copy_of(trial)
    parameters = dict(masked.named_parameters())
    names = [name for name in units.axes if name in parameters]
    for name, mask in units.masks(keep, names).items():
        parameters[name].mul_(mask)
    try:
        expected = predictions(masked, image)
        found = predictions(without_units(masked, units, keep), image)
    except Exception:  # whatever a network does that was built for other sizes
        return False
    return all(
        one.shape == other.shape
        and bool((one - other).abs().max() <= _TOLERANCE * one.abs().max().clamp_min(1e-30))
        for one, other in zip(expected, found, strict=True)
    )


def _only(units: ChannelUnits, groups: Sequence[int], why: str) -> ChannelUnits:
    """Return the units of some groups, numbered anew; the others are left dense, for `why`."""
    chosen = torch.zeros(len(units.groups), dtype=torch.bool)
    chosen[list(groups)] = True
    alive = chosen[units.group] if units.num_units else torch.zeros(0, dtype=torch.bool)
    renumbered = torch.full((units.num_units + 1,), FIXED)
    renumbered[:-1][alive] = torch.arange(int(alive.sum()))
    axes: dict[str, Mapping[int, Tensor]] = {}
    for name, by_dimension in units.axes.items():
        new = {dim: renumbered[numbers] for dim, numbers in by_dimension.items()}
        new = {dim: numbers for dim, numbers in new.items() if bool((numbers >= 0).any())}
        if new:
            axes[name] = new
    group_number = chosen.cumsum(0) - 1
    dropped = [name for name, kept in zip(units.groups, chosen.tolist(), strict=True) if not kept]
    return ChannelUnits(
        axes=axes,
        rows={name: dim for name, dim in units.rows.items() if dim in axes.get(name, {})},
        group=group_number[units.group[alive]],
        groups=tuple(n for n, kept in zip(units.groups, chosen.tolist(), strict=True) if kept),
        shapes=units.shapes,
        left_dense={**units.left_dense, **dict.fromkeys(dropped, why)},
    )
