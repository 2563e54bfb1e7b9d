"""Draws random masks, the baseline that a method must beat."""

import torch

from trainables.sparsity.allocation import prune_budget
from trainables.sparsity.method import Masks, Method, MethodContext, Proposal
from trainables.sparsity.saliency import Scores
from trainables.sparsity.selection import TieOrder, select


class Random(Method):
    """Keeps a random set of the allocated size in each layer; gradual levels nest.

    Allocation "global" draws from all layers together, so counts are proportional to sizes only
    on average.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep a random subset of the weights that are still kept."""
        return Proposal(masks=random_masks(context, density))


class RandomPretrained(Random):
    """Keeps random weights of a trained dense model (DiSparse's "pretrained" tables)."""


def random_masks(context: MethodContext, density: float) -> Masks:
    """Return a random subset of the current masks."""
    registry = context.registry
    budget = prune_budget(context.config.sparsity.allocation, registry, density)
    scores = random_scores(context)
    return select(scores, budget, TieOrder.drawn(context.generator), registry.keep())


def random_scores(context: MethodContext) -> Scores:
    """Return uniform scores in [0, 1), drawn on the CPU so that ranks and devices agree."""
    return {
        name: torch.rand(weight.shape, generator=context.generator).to(weight.device)
        for name, weight in context.registry.parameters.items()
    }
