"""When to prune how much, and when to drop and grow.

Steps count from 0; what is due at a step is due before that step's forward pass.
"""

import bisect
import math
from collections.abc import Callable

from trainables.config import RegrowthConfig, SparsityConfig

# Progress in [0, 1] and the final sparsity → sparsity now. All are 0 at 0 and final at 1.
_SPARSITY: dict[str, Callable[[float, float], float]] = {
    "linear": lambda progress, final: final * progress,
    # Zhu & Gupta 2017, eq. 1, with initial sparsity 0.
    "cubic": lambda progress, final: final * (1.0 - (1.0 - progress) ** 3),
    "cosine": lambda progress, final: final * 0.5 * (1.0 - math.cos(math.pi * progress)),
    # The same fraction of the remaining weights goes at every pruning, as in IMP.
    "exponential": lambda progress, final: 1.0 - (1.0 - final) ** progress,
}

# Progress in [0, 1) to T_end → the factor of alpha_0. RigL, Evci et al. 2020, §3 and appendix.
_ANNEALING: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
    "inverse-power": lambda progress: (1.0 - progress) ** 3,  # their k = 3; k = 1 is "linear"
}


def _window(config: SparsityConfig, total_steps: int) -> tuple[int, int]:
    # A fraction of 1 means the last step there is: a later pruning would never happen.
    last = total_steps - 1
    return (
        min(round(config.start_fraction * total_steps), last),
        min(round(config.end_fraction * total_steps), last),
    )


def num_levels(target: float, level_fraction: float) -> int:
    """How many times `level_fraction` of the remaining weights must go to reach `target`.

    At least 1. The last level prunes less where the powers of `1 - level_fraction` miss the target.
    """
    if target <= 0.0:
        return 1
    levels = math.log(1.0 - target) / math.log(1.0 - level_fraction)
    return max(1, math.ceil(levels - 1e-9))


def level_at(config: SparsityConfig, step: int, total_steps: int) -> tuple[int, int]:
    """Of schedule "levels": the 0-based level that `step` belongs to, and its first step."""
    levels = num_levels(config.target, config.level_fraction)
    starts = [level * total_steps // levels for level in range(levels)]
    level = bisect.bisect_right(starts, step) - 1
    return level, starts[level]


def rewind_step(rewind_fraction: float, pretrain_steps: int) -> int:
    """k: the step of the dense run whose state `lth` goes back to; 0 is initialisation."""
    return round(rewind_fraction * pretrain_steps)


def prune_steps(config: SparsityConfig, total_steps: int) -> tuple[int, ...]:
    """The steps at which masks are computed anew from scores, ascending, never empty.

    One-shot: the start alone. Gradual: every interval after the start, and the end itself,
    so the target is reached whether or not the interval divides the window.
    """
    if config.schedule == "levels":
        levels = num_levels(config.target, config.level_fraction)
        return tuple(dict.fromkeys(i * total_steps // levels for i in range(levels)))
    start, end = _window(config, total_steps)
    if config.schedule == "one-shot" or start == end:
        return (start,)
    return (*range(start + config.interval_steps, end, config.interval_steps), end)


def prune_due(config: SparsityConfig, step: int, total_steps: int) -> bool:
    """Whether masks must be computed anew before training step `step`."""
    if config.schedule == "levels":
        return step == level_at(config, step, total_steps)[1]
    start, end = _window(config, total_steps)
    if config.schedule == "one-shot" or start == end:
        return step == start
    return step == end or (start < step < end and (step - start) % config.interval_steps == 0)


def density_at(config: SparsityConfig, step: int, total_steps: int) -> float:
    """The density the masks have during training step `step`: 1 minus the scheduled sparsity.

    Constant between prunings; exactly `1 - target` from the last one on.
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


def regrow_due(config: RegrowthConfig, step: int, total_steps: int) -> bool:
    """Every `interval_steps` from the first interval on, before T_end (RigL, Algorithm 1)."""
    return 0 < step < config.end_fraction * total_steps and step % config.interval_steps == 0


def drop_fraction_at(config: RegrowthConfig, step: int, total_steps: int) -> float:
    """alpha_t: the share of a layer's kept weights to drop at `step`; 0 from T_end on."""
    end = config.end_fraction * total_steps
    if step >= end:
        return 0.0
    return config.fraction * _ANNEALING[config.annealing](step / end)
