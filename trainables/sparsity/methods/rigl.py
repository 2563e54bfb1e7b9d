"""Implements RigL, which grows weights by the dense gradient of the joint loss, and SET."""

from collections.abc import Mapping

from trainables.data.batch import Batch
from trainables.sparsity.gradients import joint_gradients
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.method import Method, MethodContext
from trainables.sparsity.proposal import Masks, Proposal, Scores
from trainables.sparsity.saliency import magnitude
from trainables.sparsity.selection import TieOrder, select


class RigL(Method):
    """Drops the smallest weights and grows those of largest gradient of the tasks' joint loss.

    Source: RigL, Evci et al. 2020, Algorithm 1. As in the released code, weights just dropped are
    candidates for growth. A weight that is grown again in the same update keeps its value and
    moments (`MaskRegistry.update`).

    `regrowth.gradient_at` dense is not RigL, but what the released DiSparse code does with these
    masks; it is there so that a vote is compared with the joint loss and nothing else.

    Deviations. The first layer is not exempt. With a gradual schedule the network is first pruned
    by magnitude in steps (as in GraNet, Liu et al. 2021), and the layers' counts follow the
    scheduled density.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Return the masks to start from (`starting_masks`)."""
        return Proposal(masks=starting_masks(context, density))

    def regrow(
        self, context: MethodContext, batch: Batch, drop_fraction: float, density: float
    ) -> Proposal:
        """Drop the smallest weights of each layer and grow those of largest score."""
        registry = context.registry
        if density >= 1.0:  # nothing is inactive
            return Proposal(masks=registry.keep())
        counts = context.structure.counts(density)
        survivors = num_survivors(registry, counts, drop_fraction)
        ties = TieOrder.drawn(context.generator)
        kept = drop(registry, survivors, ties)
        scores = self.growth_scores(context, batch)
        grown = context.structure.grow(scores, kept, counts, ties)
        return Proposal(masks={name: kept[name] | grown[name] for name in registry.names})

    def growth_scores(self, context: MethodContext, batch: Batch) -> Scores:
        """Return what inactive weights are ranked by: |∂L/∂w|, by default at the sparse weights."""
        return {name: g.abs_() for name, g in joint_gradients(context, batch).items()}


class Set(RigL):
    """Drops by magnitude and grows at random: SET, Mocanu et al. 2018, Algorithm 1.

    The update needs no gradient, so unlike RigL's it does not replace a training step.

    Deviations. The smallest |w| are dropped; the paper drops the same share of the positive and of
    the negative weights, those closest to zero. Densities are ERK; the paper has ER
    (`sparsity.allocation`). The replaced share is annealed; the paper's is constant
    (`regrowth.annealing`). Updates are made every `regrowth.interval_steps`; the paper's are made
    every epoch.
    """

    def growth_scores(self, context: MethodContext, batch: Batch) -> Scores:
        """Return what inactive weights are ranked by: a uniform draw."""
        return context.structure.random_scores(context.generator)


def starting_masks(context: MethodContext, density: float) -> Masks:
    """Return random masks for a one-shot schedule, as published, else masks by magnitude.

    In a gradual schedule the weights are already trained, and a random choice would waste that.
    """
    if context.config.sparsity.schedule == "one-shot":
        return context.structure.draw(density, context.generator)
    scores = magnitude(context.registry)
    return context.structure.prune(scores, density, context.generator)


def num_survivors(
    registry: MaskRegistry, counts: Mapping[str, int], drop_fraction: float
) -> dict[str, int]:
    """Return how many weights of each layer an update keeps: count - ⌊drop_fraction · count⌋.

    It starts from the count that the layer will end with, not from its current count. A layer
    that overshot, or whose target fell, is therefore corrected by the same drop.
    """
    active = registry.kept_by_layer
    return {n: min(active[n], count - int(drop_fraction * count)) for n, count in counts.items()}


def drop(registry: MaskRegistry, survivors: Mapping[str, int], ties: TieOrder) -> Masks:
    """Return masks of the active weights of largest |w|, `survivors` of them in each layer."""
    return select(magnitude(registry), survivors, ties, within=registry.keep())
