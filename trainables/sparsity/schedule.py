"""Decides when to prune how much, and when to drop and grow.

Steps count from 0. A pruning that is due at a step is done before that step's forward pass.
"""

import bisect
import math
from collections.abc import Callable

from trainables.config import RegrowthConfig, SparsityConfig

# Current sparsity by progress in [0, 1] and final sparsity: 0 at progress 0, final at 1.
_SPARSITY: dict[str, Callable[[float, float], float]] = {
    "linear": lambda progress, final: final * progress,
    # Zhu & Gupta 2017, eq. 1, with initial sparsity 0.
    "cubic": lambda progress, final: final * (1.0 - (1.0 - progress) ** 3),
    "cosine": lambda progress, final: final * 0.5 * (1.0 - math.cos(math.pi * progress)),
    # Every pruning removes the same fraction of the remaining weights, as in IMP.
    "exponential": lambda progress, final: 1.0 - (1.0 - final) ** progress,
}

# The factor of alpha_0 by progress in [0, 1) to T_end. RigL, Evci et al. 2020, §3 and appendix.
_ANNEALING: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "inverse-power": lambda progress: (1.0 - progress) ** 3,  # their k = 3; k = 1 is "linear"
}


def _window(config: SparsityConfig, total_steps: int) -> tuple[int, int]:
    # A fraction of 1 means the last step, because a later pruning would never happen.
    last = total_steps - 1
    return (
        min(round(config.start_fraction * total_steps), last),
        min(round(config.end_fraction * total_steps), last),
    )


def num_levels(target: float, level_fraction: float) -> int:
    """Return how many prunings of `level_fraction` of the remaining weights reach `target`.

    It is at least 1. The last level prunes less if powers of `1 - level_fraction` miss the target.
    """
    if target <= 0.0:
        return 1
    levels = math.log(1.0 - target) / math.log(1.0 - level_fraction)
    return max(1, math.ceil(levels - 1e-9))


def level_at(config: SparsityConfig, step: int, total_steps: int) -> tuple[int, int]:
    """Return the 0-based level that `step` belongs to in schedule "levels", and its first step."""
    levels = num_levels(config.target, config.level_fraction)
    starts = [level * total_steps // levels for level in range(levels)]
    level = bisect.bisect_right(starts, step) - 1
    return level, starts[level]


def rewind_step(rewind_fraction: float, pretrain_steps: int) -> int:
    """Return k, the step of the dense run that `lth` goes back to; 0 is initialisation."""
    return round(rewind_fraction * pretrain_steps)


def prune_steps(config: SparsityConfig, total_steps: int) -> tuple[int, ...]:
    """Return the steps at which new masks are computed from scores, ascending and never empty.

    One-shot: only the start. Gradual: every interval after the start, and the end itself, so
    that the target is reached even if the interval does not divide the window.
    """
    if config.schedule == "levels":
        levels = num_levels(config.target, config.level_fraction)
        return tuple(dict.fromkeys(i * total_steps // levels for i in range(levels)))
    start, end = _window(config, total_steps)
    if config.schedule == "one-shot" or start == end:
        return (start,)
    return (*range(start + config.interval_steps, end, config.interval_steps), end)


def prune_due(config: SparsityConfig, step: int, total_steps: int) -> bool:
    """Return whether new masks must be computed before training step `step`."""
    if config.schedule == "levels":
        return step == level_at(config, step, total_steps)[1]
    start, end = _window(config, total_steps)
    if config.schedule == "one-shot" or start == end:
        return step == start
    return step == end or (start < step < end and (step - start) % config.interval_steps == 0)


def density_at(config: SparsityConfig, step: int, total_steps: int) -> float:
    """Return the density during training step `step`: 1 minus the scheduled sparsity.

    It is constant between prunings and exactly `1 - target` from the last one on.
    """
    if config.schedule == "levels":
        level, _ = level_at(config, step, total_steps)
        if level + 1 == num_levels(config.target, config.level_fraction):
            return 1.0 - config.target
        return (1.0 - config.level_fraction) ** (level + 1)
    start, end = _window(config, total_steps)
    if config.schedule == "one-shot":
        return 1.0 - config.target if step >= start else 1.0
    if step >= end:
        return 1.0 - config.target
    if step < start:
        return 1.0
    pruned_at = step - (step - start) % config.interval_steps
    progress = (pruned_at - start) / (end - start)
    return 1.0 - _SPARSITY[config.schedule](progress, config.target)


def regrow_due(
    config: RegrowthConfig, step: int, total_steps: int, *, released: bool = False
) -> bool:
    """Return whether masks are updated at `step`: every `interval_steps`, before T_end.

    The first update is after one interval (RigL, Evci et al. 2020, Algorithm 1).

    released: as in the released DiSparse code (`disparse_dynamic_train`), where the first is at
      step 0, and one more at T_end, if training goes on. Nothing is replaced then
      (`drop_fraction_at` is 0), so that a layer that overshot loses its smallest weights.
    """
    end = config.end_fraction * total_steps
    if released and step in (0, math.ceil(end)):
        return True
    return 0 < step < end and step % config.interval_steps == 0


def drop_fraction_at(config: RegrowthConfig, step: int, total_steps: int) -> float:
    """Return alpha_t, the share of a layer's kept weights to drop at `step`; 0 from T_end on."""
    end = config.end_fraction * total_steps
    if step >= end:
        return 0.0
    return config.fraction * _ANNEALING[config.annealing](step / end)
