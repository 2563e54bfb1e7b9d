"""Prunes each weight alone, so the number of kept weights is exact."""

from collections.abc import Mapping

import torch

from trainables.config import SparsityConfig
from trainables.errors import UserError
from trainables.sparsity.allocation import prune_budget, target_count
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.proposal import Masks, Proposal, Scores
from trainables.sparsity.selection import TieOrder, require_finite, select
from trainables.sparsity.structures.structure import Structure
from trainables.sparsity.structures.voting import settle


class WeightStructure(Structure):
    """Keeps exactly `round(density · total)` weights, over all layers or by layer.

    Raises `UserError` for a target that keeps no weight.
    """

    def __init__(self, registry: MaskRegistry, config: SparsityConfig) -> None:
        super().__init__(registry, config)
        if target_count(1 - config.target, registry.total) == 0:
            raise UserError(
                "`sparsity.target` must keep at least one weight, got "
                f"{config.target} of {registry.total:,} prunable weights; at most "
                f"{1 - 1 / registry.total:.8f} keeps one"
            )

    def prune(self, scores: Scores, density: float, generator: torch.Generator) -> Masks:
        """Return the masks of the weights of highest score."""
        budget = prune_budget(self.config.allocation, self.registry, density)
        return select(scores, budget, TieOrder.drawn(generator), self.registry.keep())

    def vote(
        self, scores: Mapping[str, Scores], density: float, generator: torch.Generator
    ) -> Proposal:
        """Settle the vote over all layers together (allocation "global") or within each layer."""
        registry, arbiter = self.registry, self.config.arbiter
        budget = prune_budget(self.config.allocation, registry, density)
        for task_scores in scores.values():
            require_finite(task_scores)
        ties, within = TieOrder.drawn(generator), registry.keep()
        if isinstance(budget, int):
            return settle(registry.names, scores, within, budget, arbiter, ties)
        return self._settle_by_layer(scores, within, budget, ties)

    def grow(self, scores: Scores, kept: Masks, counts: Mapping[str, int], ties: TieOrder) -> Masks:
        """Return the masks of the inactive weights of highest score, layer by layer."""
        missing = self._missing(kept, counts)
        return select(scores, missing, ties, within={name: ~keep for name, keep in kept.items()})

    def grow_by_vote(
        self, scores: Mapping[str, Scores], kept: Masks, counts: Mapping[str, int], ties: TieOrder
    ) -> Proposal:
        """Settle the vote on inactive weights within each layer."""
        inactive = {name: ~keep for name, keep in kept.items()}
        return self._settle_by_layer(scores, inactive, self._missing(kept, counts), ties)

    def _missing(self, kept: Masks, counts: Mapping[str, int]) -> dict[str, int]:
        sums = torch.stack([kept[name].count_nonzero() for name in self.registry.names]).tolist()
        return {n: counts[n] - kept_n for n, kept_n in zip(self.registry.names, sums, strict=True)}

    def _settle_by_layer(
        self,
        scores: Mapping[str, Scores],
        within: Masks,
        budget: Mapping[str, int],
        ties: TieOrder,
    ) -> Proposal:
        masks: Masks = {}
        votes: dict[str, Masks] = {task: {} for task in scores}
        arbiter = self.config.arbiter
        for name in self.registry.names:
            part = settle([name], scores, within, budget[name], arbiter, ties)
            masks |= part.masks
            for task, task_votes in (part.votes or {}).items():
                votes[task] |= task_votes
        return Proposal(masks=masks, votes=votes)
