"""Random masks: what a method must beat."""

import torch

from trainables.sparsity.allocation import prune_budget
from trainables.sparsity.method import Masks, Method, MethodContext, Proposal
from trainables.sparsity.saliency import Scores
from trainables.sparsity.selection import TieOrder, select


class Random(Method):
    """Each layer keeps a random set of its allocated size; gradual levels nest.

    Allocation "global" draws from all layers together, so counts follow sizes by chance.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep a random subset of the weights that are still kept."""
        return Proposal(masks=random_masks(context, density))


class RandomPretrained(Random):
    """Random masks on a trained dense model, then fine-tuning (DiSparse's "pretrained" tables)."""


def random_masks(context: MethodContext, density: float) -> Masks:
    """A random subset of the current masks."""
    registry = context.registry
    budget = prune_budget(context.config.sparsity.allocation, registry, density)
    scores = random_scores(context)
    return select(scores, budget, TieOrder.drawn(context.generator), registry.keep())


def random_scores(context: MethodContext) -> Scores:
    """Uniform in [0, 1), drawn on the CPU: alike on every rank and device."""
    return {
        name: torch.rand(weight.shape, generator=context.generator).to(weight.device)
        for name, weight in context.registry.parameters.items()
    }
