"""Random masks: what a method must beat."""

from typing import ClassVar

import torch

from trainables.sparsity.allocation import prune_budget
from trainables.sparsity.method import Masks, Method, MethodContext, Proposal
from trainables.sparsity.selection import TieOrder, select


class Random(Method):
    """Each layer keeps a random set of its allocated size; gradual levels nest.

    Allocation "global" draws from all layers together, so counts follow sizes by chance.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random weights at initialisation"
    paper: ClassVar[str] = "Liu et al. 2022, The Unreasonable Effectiveness of Random Pruning"

    def prune(self, context: MethodContext, density: float) -> Proposal:
        return Proposal(masks=random_masks(context, density))


def random_masks(context: MethodContext, density: float) -> Masks:
    """A random subset of the current masks, drawn on the CPU: alike on every rank and device."""
    registry = context.registry
    scores = {
        name: torch.rand(weight.shape, generator=context.generator).to(weight.device)
        for name, weight in registry.parameters.items()
    }
    budget = prune_budget(context.config.sparsity.allocation, registry, density)
    return select(scores, budget, TieOrder.drawn(context.generator), registry.keep())
