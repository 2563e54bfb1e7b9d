"""Implements magnitude pruning: all its methods prune the smallest |w|, but at different times.

The sparsity schedule decides when (`trainables.sparsity.schedule`). The training loop does
pre-training and rewinding (`trainables.training.loop.loop`).
"""

from trainables.sparsity.method import Method, MethodContext, Proposal
from trainables.sparsity.saliency import magnitude


class MagnitudePruning(Method):
    """Keeps the largest |w| among the weights still kept, so that levels nest.

    Weights are compared over all layers together (allocation "global") or within each layer.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep the largest weights of those that are still kept."""
        scores = magnitude(context.registry)
        return Proposal(masks=context.structure.prune(scores, density, context.generator))


class GradualMagnitude(MagnitudePruning):
    """Prunes by magnitude during training on the cubic schedule: GMP, Zhu & Gupta 2017, eq. 1.

    Training is from scratch with initial sparsity 0 and the same sparsity in every layer
    (allocation "uniform" in the presets). Deviation. Pruned weights are zero and stay pruned; the
    paper masks them and ranks all weights again at every pruning.
    """


class IterativeMagnitude(MagnitudePruning):
    """Prunes a trained dense model by magnitude in levels, with fine-tuning after each: IMP.

    It is the papers' baseline (Han et al. 2015; DiSparse, Sun et al. 2022, table 1). A level prunes
    `sparsity.level_fraction` of the remaining weights; the last one meets the target exactly. The
    levels share `training.steps` evenly. The learning-rate schedule starts again at each level
    (Renda et al. 2020, learning-rate rewinding), because otherwise the last would hardly learn.
    """


class LotteryTicket(MagnitudePruning):
    """Prunes in the levels of `imp`, but every level trains from step k of the dense run: LTH.

    Frankle & Carbin 2019 rewind to initialisation (`sparsity.rewind_fraction` 0), Frankle et
    al. 2020 (linear mode connectivity) to an early step k. At each level the weights, the
    statistics of the normalisation layers, the learning-rate schedule, the data order and the
    draws of dropout go back to step k; moments start at zero.

    The repetition is exact for networks that train alike in both phases. The others
    (cross-stitch, den) start their levels from the weights alone.

    Deviation. The levels share `training.steps` evenly, and the dense run is k steps longer than
    one level; the literature gives every level a full training run. Raise `training.steps` for
    that.
    """


class OneShotTicket(LotteryTicket):
    """Prunes the lottery ticket to the target in a single level and then rewinds."""
