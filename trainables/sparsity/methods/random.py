"""Random masks: what a method must beat."""

from typing import ClassVar

import torch

from trainables.sparsity.allocation import prune_budget
from trainables.sparsity.method import Masks, Method, MethodContext, Proposal
from trainables.sparsity.saliency import Scores
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


class RandomPretrained(Random):
    """Random masks on a trained dense model, then fine-tuning (DiSparse's "pretrained" tables)."""

    name: ClassVar[str] = "random-pretrained"
    summary: ClassVar[str] = "random weights of a trained dense model, then fine-tuning"
    paper: ClassVar[str] = "DiSparse, Sun et al. 2022, table 1"
    needs_pretraining: ClassVar[bool] = True


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
