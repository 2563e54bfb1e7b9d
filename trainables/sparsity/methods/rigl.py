"""RigL: drop the smallest weights, grow where the dense gradient of the joint loss is largest."""

from collections.abc import Mapping

from trainables.data.batch import Batch
from trainables.sparsity.allocation import prune_budget, regrow_budget
from trainables.sparsity.gradients import joint_gradients
from trainables.sparsity.masks import MaskRegistry
from trainables.sparsity.method import Masks, Method, MethodContext, Proposal
from trainables.sparsity.methods.random import random_masks, random_scores
from trainables.sparsity.saliency import Scores, magnitude
from trainables.sparsity.selection import TieOrder, select


class RigL(Method):
    """RigL, Evci et al. 2020, Algorithm 1, on the joint loss of all tasks.

    As in the released code, weights just dropped are candidates for growth; one that is grown
    again in the same update keeps its value and moments (`MaskRegistry.update`).

    Deviations. The first layer is not exempt. With a gradual schedule the network is
    first pruned by magnitude level by level (as GraNet, Liu et al. 2021) and layers move to the
    counts of the density then due.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Give the masks to start from (`starting_masks`)."""
        return Proposal(masks=starting_masks(context, density))

    def regrow(
        self, context: MethodContext, batch: Batch, drop_fraction: float, density: float
    ) -> Proposal:
        """Drop the smallest weights of each layer and grow those of largest score."""
        registry = context.registry
        if density >= 1.0:  # nothing is inactive
            return Proposal(masks=registry.keep())
        counts = regrow_budget(context.config.sparsity.allocation, registry, density)
        survivors = num_survivors(registry, counts, drop_fraction)
        ties = TieOrder.drawn(context.generator)
        kept = drop(registry, survivors, ties)
        grown = select(
            self.growth_scores(context, batch),
            {name: counts[name] - survivors[name] for name in registry.names},
            ties,
            within={name: ~keep for name, keep in kept.items()},
        )
        return Proposal(masks={name: kept[name] | grown[name] for name in registry.names})

    def growth_scores(self, context: MethodContext, batch: Batch) -> Scores:
        """What inactive weights are ranked by: |∂L/∂w| at the sparse weights."""
        return {name: g.abs_() for name, g in joint_gradients(context, batch).items()}


class Set(RigL):
    """SET, Mocanu et al. 2018, Algorithm 1: drop by magnitude, grow at random.

    The update costs no gradient, so unlike RigL's it takes no step's place.

    Deviations. The smallest |w| are dropped, where the paper drops a share of the positive and
    the same share of the negative weights, each the closest to zero; densities are ERK where the
    paper has ER (`sparsity.allocation`), the replaced share is annealed where the
    paper's is constant (`regrowth.annealing`), and updates come every `regrowth.interval_steps`
    where the paper's come every epoch.
    """

    def growth_scores(self, context: MethodContext, batch: Batch) -> Scores:
        """What inactive weights are ranked by: a uniform draw."""
        return random_scores(context)


def starting_masks(context: MethodContext, density: float) -> Masks:
    """Random with a one-shot schedule, as published; by magnitude with a gradual one,
    for by then the weights are trained and a random choice would waste that."""
    registry = context.registry
    if context.config.sparsity.schedule == "one-shot":
        return random_masks(context, density)
    budget = prune_budget(context.config.sparsity.allocation, registry, density)
    return select(magnitude(registry), budget, TieOrder.drawn(context.generator), registry.keep())


def num_survivors(
    registry: MaskRegistry, counts: Mapping[str, int], drop_fraction: float
) -> dict[str, int]:
    """By layer, the weights an update leaves untouched: the count less ⌊drop_fraction · count⌋.

    Counted from where the layer will end, not from what it holds, so a layer that
    overshot, or whose target fell, is brought back by the same drop.
    """
    active = registry.kept_by_layer
    return {n: min(active[n], count - int(drop_fraction * count)) for n, count in counts.items()}


def drop(registry: MaskRegistry, survivors: Mapping[str, int], ties: TieOrder) -> Masks:
    """The active weights of largest |w|, so many in each layer."""
    return select(magnitude(registry), survivors, ties, within=registry.keep())
