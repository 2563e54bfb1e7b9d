"""Magnitude pruning: the smallest |w| go. One rule; methods differ in when, and in what follows.

When is the sparsity schedule's business (`trainables.sparsity.schedule`); pre-training and
rewinding are the training loop's (`trainables.training.loop.loop`).
"""

from trainables.sparsity.allocation import prune_budget
from trainables.sparsity.method import Method, MethodContext, Proposal
from trainables.sparsity.saliency import magnitude
from trainables.sparsity.selection import TieOrder, select


class MagnitudePruning(Method):
    """Keeps the largest |w| among those still kept, so levels nest.

    Over all layers together (allocation "global"), or in each layer with a per-layer one.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep the largest weights of those that are still kept."""
        registry = context.registry
        budget = prune_budget(context.config.sparsity.allocation, registry, density)
        ties = TieOrder.drawn(context.generator)
        return Proposal(masks=select(magnitude(registry), budget, ties, registry.keep()))


class GradualMagnitude(MagnitudePruning):
    """GMP, Zhu & Gupta 2017: pruned by magnitude while training, on the cubic schedule (eq. 1).

    From scratch, initial sparsity 0, every layer at the same sparsity (allocation "uniform" in
    the presets). Deviation. Pruned weights are zero and stay pruned; the paper masks them and
    ranks all weights anew at every pruning.
    """


class IterativeMagnitude(MagnitudePruning):
    """IMP as the papers' baseline: a trained dense model is pruned by magnitude, level by level,
    and fine-tuned after each (Han et al. 2015; DiSparse, Sun et al. 2022, table 1).

    A level prunes `sparsity.level_fraction` of what remains; the last one meets the target
    exactly. The levels share `training.steps` evenly, and the learning-rate schedule starts again
    at each (Renda et al. 2020, learning-rate rewinding), else the last would hardly learn.
    """


class LotteryTicket(MagnitudePruning):
    """LTH: the levels of `imp`, but every level trains again from step k of the dense run.

    Frankle & Carbin 2019 rewind to initialisation (`sparsity.rewind_fraction` 0), Frankle et
    al. 2020 (linear mode connectivity) to an early step k. At each level the weights and the
    statistics of the normalisation layers, the learning-rate schedule, the data order and
    what dropout draws go back to step k; moments start at zero.

    The repetition is exact for networks that train alike in both phases; those that do not
    (cross-stitch, den) start their levels from the weights alone.

    Deviation. The levels share `training.steps` evenly, and the dense run is as long as one
    level and its first k steps; the literature gives every level a full training run. Raise
    `training.steps` for that.
    """


class OneShotTicket(LotteryTicket):
    """The lottery ticket with a single level: pruned to the target at once, then rewound."""
