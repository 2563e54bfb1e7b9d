"""Decides how many weights each layer keeps: whole numbers that sum exactly to the target."""

import math
from collections.abc import Mapping

from trainables.errors import unknown_name
from trainables.sparsity.masking.masks import MaskRegistry

PER_LAYER = ("uniform", "er", "erk")


def target_count(density: float, total: int) -> int:
    """Return the number of weights to keep, `round(density * total)`."""
    return round(density * total)


def prune_budget(kind: str, registry: MaskRegistry, density: float) -> int | dict[str, int]:
    """Return how many weights a pruning within the current masks keeps, in total or by layer.

    kind: one of `trainables.config.ALLOCATIONS`; "global" lets the scores decide between layers.
    The sum is `target_count`, or the number of weights now kept if that is smaller: DiSparse's
    published regrowth may leave fewer weights than a gradual schedule asks for.
    """
    count = min(target_count(density, registry.total), registry.kept)
    if kind == "global":
        return count
    return allocate(kind, registry.shapes, count, caps=registry.kept_by_layer)


def regrow_budget(kind: str, registry: MaskRegistry, density: float) -> dict[str, int]:
    """Return how many weights each layer keeps after a drop-and-grow update at `density`.

    "global" layers keep the counts that the first masks gave them, scaled as the target moves.
    """
    count = target_count(density, registry.total)
    if kind != "global":
        return allocate(kind, registry.shapes, count)
    if count == registry.kept:
        return registry.kept_by_layer
    return rescale(registry.kept_by_layer, registry.shapes, count)


def allocate(
    kind: str,
    shapes: Mapping[str, tuple[int, ...]],
    count: int,
    caps: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return kept weights by layer, which sum exactly to `count` and never exceed a layer.

    kind: "uniform" (the same density everywhere), "er" (density ∝ (in + out) / (in · out);
      SET, Mocanu et al. 2018, eq. 3) or "erk" (∝ Σ shape / ∏ shape, kernel sides included;
      RigL, Evci et al. 2020, §3, their power scale 1; DiSparse's released code takes 0.9 and
      leaves the first convolution dense, which we do not).
    shapes: weight shapes (out, in, *kernel) by name.
    caps: no layer gets more than this (default: its size). A gradual schedule passes the
      current counts, because rounding by remainders may raise a layer while the sum falls
      (the Alabama paradox), and pruned weights must stay pruned.
    """
    return apportion({n: _share(kind, s) for n, s in shapes.items()}, _caps(shapes, caps), count)


def rescale(
    counts: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]], count: int
) -> dict[str, int]:
    """Return `counts` scaled in proportion to sum to `count`, for "global" layers."""
    return apportion(counts, _caps(shapes, None), count)


def apportion(shares: Mapping[str, int], caps: Mapping[str, int], count: int) -> dict[str, int]:
    """Split `count` in proportion to `shares` under `caps`, by largest remainder.

    A layer whose quota exceeds its cap is set to the cap and the rest is shared among the
    others, as RigL's epsilon iteration does. All arithmetic is on integers, so neither the
    sum nor a tie depends on rounding. Of equal remainders the earlier layer gets the weight.
    """
    assert 0 <= count <= sum(caps.values()), (count, sum(caps.values()))
    result = {name: 0 for name in shares}
    open_layers = list(shares)
    left = count
    while left > 0:
        total_share = sum(shares[n] for n in open_layers)
        if total_share == 0:  # only layers without a share have room: fill them evenly
            room = {n: caps[n] for n in open_layers}
            return result | apportion(room, room, left)
        full = [n for n in open_layers if left * shares[n] >= caps[n] * total_share]
        if not full:
            quotas = {n: divmod(left * shares[n], total_share) for n in open_layers}
            result |= {n: quota for n, (quota, _) in quotas.items()}
            spare = left - sum(quota for quota, _ in quotas.values())
            for n in sorted(open_layers, key=lambda n: -quotas[n][1])[:spare]:
                result[n] += 1
            break
        for n in full:
            result[n] = caps[n]
            left -= caps[n]
        open_layers = [n for n in open_layers if n not in full]
    return result


def _share(kind: str, shape: tuple[int, ...]) -> int:
    # density factor × size, which is a whole number for all three kinds
    size = math.prod(shape)
    if kind == "uniform":
        return size
    if kind == "er":
        return (shape[0] + shape[1]) * math.prod(shape[2:])
    if kind == "erk":
        return sum(shape)
    raise unknown_name("per-layer allocation", kind, PER_LAYER)


def _caps(shapes: Mapping[str, tuple[int, ...]], caps: Mapping[str, int] | None) -> dict[str, int]:
    return {n: math.prod(s) if caps is None else caps[n] for n, s in shapes.items()}
