"""Describes how sparse a trial's network becomes; `trainables.config` holds the other parts."""

import math
from dataclasses import dataclass

from trainables.checks import at_least, choice, fraction, require
from trainables.registry.structures import group_sizes

ALLOCATIONS = ("uniform", "er", "erk", "global")
COUNTS = ("parameters", "flops")
SPARSITY_SCHEDULES = ("one-shot", "linear", "cubic", "cosine", "exponential", "levels")
REWIND_FRACTIONS = (0.0, 0.01, 0.05, 0.1, 0.2)
ANNEALINGS = ("constant", "linear", "cosine", "inverse-power")
ARBITERS = ("unanimous", "majority", "intersection")
SALIENCY_WEIGHTS = ("actual", "xavier")
REGROW_BUDGETS = ("exact", "published")
GRADIENTS_AT = ("sparse", "dense")
SCORES = ("taylor", "magnitude", "published")


@dataclass(frozen=True, kw_only=True, slots=True)
class SparsityConfig:
    """Describes how sparse the network becomes, in which layers and when."""

    structure: str  # what is pruned together: "weight", "channel", or N:M, e.g. "2:4"
    target: float  # fraction of the prunable weights that ends at zero; for channels, of `counts`
    counts: str  # "channel" only: what the target is a fraction of, "parameters" or "flops"
    round_to: int  # "channel" only: layers keep multiples of it, or all of their channels
    allocation: str  # of the kept weights over layers; "global" = by score
    schedule: str  # from dense to target; "one-shot" = in one step at `start_fraction`,
    # "levels" = a fixed share of the remaining weights each time, over all of training
    start_fraction: float  # of training
    end_fraction: float
    interval_steps: int  # between the prunings of a gradual schedule
    level_fraction: float  # "levels" only: share of the remaining weights pruned at each level
    rewind_fraction: float  # of pre-training, to which `lth` rewinds
    score: str
    saliency_batches: int
    saliency_weights: str  # "actual" | "xavier": what the initial saliency is taken on
    arbiter: str

    def __post_init__(self) -> None:
        require(
            math.isfinite(self.target) and 0.0 <= self.target < 1.0,
            "`sparsity.target` must be in [0, 1)",
            self.target,
            "0.9 keeps a tenth of the weights",
        )
        _require_structure(self.structure, self.target)
        choice("counted cost", self.counts, COUNTS)
        at_least("sparsity.round_to", self.round_to, 1)
        choice("allocation", self.allocation, ALLOCATIONS)
        choice("schedule", self.schedule, SPARSITY_SCHEDULES)
        choice("score", self.score, SCORES)
        choice("arbiter", self.arbiter, ARBITERS)
        choice("saliency_weights", self.saliency_weights, SALIENCY_WEIGHTS)
        fraction("sparsity.start_fraction", self.start_fraction)
        fraction("sparsity.end_fraction", self.end_fraction)
        require(
            self.start_fraction <= self.end_fraction,
            "`sparsity.start_fraction` <= `sparsity.end_fraction` must hold",
            (self.start_fraction, self.end_fraction),
            "swap them",
        )
        at_least("sparsity.interval_steps", self.interval_steps, 1)
        require(
            0.001 <= self.level_fraction < 1.0,
            "`sparsity.level_fraction` must be in [0.001, 1)",
            self.level_fraction,
            "0.2 prunes a fifth of the remaining weights at each level",
        )
        require(
            self.rewind_fraction in REWIND_FRACTIONS,
            f"`sparsity.rewind_fraction` must be one of {REWIND_FRACTIONS}",
            self.rewind_fraction,
            "the dense run is kept at these points only",
        )
        at_least("sparsity.saliency_batches", self.saliency_batches, 1)


def _require_structure(structure: str, target: float) -> None:
    sizes = group_sizes(structure)
    if sizes is None or target == 0:
        return
    share = 1 - sizes[0] / sizes[1]
    require(
        math.isclose(target, share, abs_tol=1e-9),
        f"`sparsity.target` must be {share:g} for structure {structure}, which sets it",
        target,
        "leave it out",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RegrowthConfig:
    """Describes drop and grow (RigL, DiSparse dynamic); methods that never regrow ignore it."""

    fraction: float  # alpha_0: share of a layer's kept weights replaced at the first update
    annealing: str
    interval_steps: int  # delta_T
    end_fraction: float  # T_end as a fraction of training
    budget: str  # "exact" keeps every layer's count; "published" lets the union overshoot
    gradient_at: str = "sparse"  # the weights at which growth gradients are taken; "dense" = pruned
    # ones at the values they had, which they resume when grown, as in the released DiSparse code

    def __post_init__(self) -> None:
        fraction("regrowth.fraction", self.fraction)
        choice("annealing", self.annealing, ANNEALINGS)
        choice("regrowth budget", self.budget, REGROW_BUDGETS)
        choice("`regrowth.gradient_at`", self.gradient_at, GRADIENTS_AT)
        fraction("regrowth.end_fraction", self.end_fraction)
        at_least("regrowth.interval_steps", self.interval_steps, 1)
