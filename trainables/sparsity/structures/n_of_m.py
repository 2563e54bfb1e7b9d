"""Keeps N of every M consecutive weights along the input dimension, as sparse tensor cores want.

For a convolution of shape (out, in, height, width), a group is M consecutive input channels of one
output channel at one kernel position: in channels-last order these are consecutive in memory
(Mishra et al. 2021, Accelerating Sparse Deep Neural Networks). A layer whose input dimension M does
not divide stays dense.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.config import SparsityConfig
from trainables.errors import UserError
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.proposal import Masks, Proposal, Scores
from trainables.sparsity.selection import TieOrder, order_keys, require_finite
from trainables.sparsity.structures.structure import Structure
from trainables.sparsity.structures.voting import votes_required

_NEVER = 1 << 20  # a rank that no weight has; shifted by 32 bits it is still an int64


class NofM(Structure):
    """Keeps at most N of every M consecutive weights.

    During a gradual schedule every group keeps ⌈density · M⌉, until N are left. The tasks' vote is
    settled group by group: each task ranks the group's weights, a shared weight enters with the
    j-th best of its ranks (j votes are required), and the N that enter first are kept.

    Raises `UserError` if M divides no layer's input dimension.
    """

    def __init__(self, registry: MaskRegistry, config: SparsityConfig, n: int, m: int) -> None:
        super().__init__(registry, config)
        self.n, self.m = n, m
        if len(self.left_dense) == len(registry.names):
            sizes = sorted({shape[1] for shape in registry.shapes.values()})
            raise UserError(
                f"structure {n}:{m} needs a layer whose input dimension is a multiple of {m}, got "
                f"{', '.join(map(str, sizes))}; choose an M that divides one of them"
            )

    @property
    def left_dense(self) -> dict[str, str]:
        """Return the layers whose input dimension M does not divide, and transposed convolutions.

        Of those, the input channels run along the first dimension, which no kernel groups.
        """
        reasons = {
            name: f"its input dimension of {shape[1]} is not a multiple of {self.m}"
            for name, shape in self.registry.shapes.items()
            if shape[1] % self.m
        }
        why = "it is a transposed convolution, whose input channels are not consecutive"
        return reasons | dict.fromkeys(sorted(self.registry.prunable.transposed), why)

    def prune(self, scores: Scores, density: float, generator: torch.Generator) -> Masks:
        """Return the masks of the best weights of every group."""
        require_finite(scores)
        return self._best(scores, self.registry.keep(), density, TieOrder.drawn(generator))

    def vote(
        self, scores: Mapping[str, Scores], density: float, generator: torch.Generator
    ) -> Proposal:
        """Settle the vote within every group."""
        within, ties = self.registry.keep(), TieOrder.drawn(generator)
        size = self._group_size(density)
        quotas = {name: size for name in self.registry.names}
        return self._settle(scores, within, quotas, ties)

    def counts(self, density: float) -> dict[str, int]:
        """Return how many weights each layer has with full groups."""
        size = self._group_size(density)
        dense = self.left_dense
        return {
            name: weight.numel() if name in dense else weight.numel() // self.m * size
            for name, weight in self.registry.parameters.items()
        }

    def grow(self, scores: Scores, kept: Masks, counts: Mapping[str, int], ties: TieOrder) -> Masks:
        """Return the masks of the best inactive weights that fill every group again."""
        require_finite(scores)
        grown = {}
        for name, offset, score in self._numbered(scores):
            if name in self.left_dense:
                grown[name] = ~kept[name]
                continue
            ranks = self._ranks(score, ~kept[name], offset, ties)
            grown[name] = self._ungrouped(ranks < self._vacant(name, kept, counts), score)
        return grown

    def grow_by_vote(
        self, scores: Mapping[str, Scores], kept: Masks, counts: Mapping[str, int], ties: TieOrder
    ) -> Proposal:
        """Settle the vote on the inactive weights of every group."""
        inactive = {name: ~keep for name, keep in kept.items()}
        quotas = {
            name: self._vacant(name, kept, counts)
            for name in self.registry.names
            if name not in self.left_dense
        }
        return self._settle(scores, inactive, quotas, ties)

    def _group_size(self, density: float) -> int:
        # A hair less, so that 0.5 · 4 computed as 2.0000000000000004 is 2.
        return max(self.n, int(-(-(density * self.m - 1e-9) // 1)))

    def _vacant(self, name: str, kept: Masks, counts: Mapping[str, int]) -> Tensor:
        """Return how many weights each group lacks, with a dimension of size 1 for the group."""
        size = counts[name] * self.m // kept[name].numel()
        return size - self._grouped(kept[name]).sum(dim=2, keepdim=True)

    def _best(self, scores: Scores, within: Masks, density: float, ties: TieOrder) -> Masks:
        size, dense = self._group_size(density), self.left_dense
        masks = {}
        for name, offset, score in self._numbered(scores):
            if name in dense:
                masks[name] = within[name]
                continue
            ranks = self._ranks(score, within[name], offset, ties)
            masks[name] = self._ungrouped(ranks < size, score)
        return masks

    def _settle(
        self,
        scores: Mapping[str, Scores],
        within: Masks,
        quotas: Mapping[str, int | Tensor],
        ties: TieOrder,
    ) -> Proposal:
        for task_scores in scores.values():
            require_finite(task_scores)
        masks: Masks = {}
        votes: dict[str, Masks] = {task: {} for task in scores}
        dense = self.left_dense
        for name, offset, weight in self._numbered(self.registry.parameters):
            voters = [task for task in scores if name in scores[task]]
            if name in dense:
                masks[name] = within[name]
                for task in voters:
                    votes[task][name] = within[name]
                continue
            ranks = torch.stack(
                [self._ranks(scores[task][name], within[name], offset, ties) for task in voters]
            )
            needed = votes_required(self.config.arbiter, len(voters))
            entry = ranks.sort(dim=0).values[needed - 1]
            index = torch.arange(offset, offset + weight.numel(), device=weight.device)
            places = self._grouped(ties.place(index).reshape(weight.shape))
            # The smallest entries first; of equal ones those of the highest place, as elsewhere.
            keys = (entry << 32) + ((1 << 32) - 1 - places)
            order = keys.argsort(dim=2).argsort(dim=2)
            keep = (order < quotas[name]) & (entry < _NEVER)
            last = entry.masked_fill(~keep, -1).amax(dim=2, keepdim=True)
            masks[name] = self._ungrouped(keep, weight)
            for task, rank in zip(voters, ranks, strict=True):
                votes[task][name] = self._ungrouped(rank <= last, weight)
        return Proposal(masks=masks, votes=votes)

    def _ranks(self, score: Tensor, within: Tensor, offset: int, ties: TieOrder) -> Tensor:
        """Return each weight's rank in its group from 0, int64; outside `within` it has none."""
        index = torch.arange(offset, offset + score.numel(), device=score.device)
        keys = order_keys(score.reshape(-1), ties, index).reshape(score.shape)
        grouped, inside = self._grouped(keys), self._grouped(within)
        grouped = grouped.masked_fill(~inside, torch.iinfo(torch.int64).min)
        ranks = grouped.argsort(dim=2, descending=True, stable=True).argsort(dim=2)
        return ranks.masked_fill(~inside, _NEVER)

    def _numbered(self, tensors: Mapping[str, Tensor]) -> list[tuple[str, int, Tensor]]:
        """Return the tensors in the registry's order, each with the number of its first weight."""
        found, offset = [], 0
        for name in self.registry.names:
            found.append((name, offset, tensors[name]))
            offset += tensors[name].numel()
        return found

    def _grouped(self, tensor: Tensor) -> Tensor:
        """Return (out, in, …) as (out, in / M, M, …)."""
        return tensor.unflatten(1, (-1, self.m))

    def _ungrouped(self, grouped: Tensor, like: Tensor) -> Tensor:
        return grouped.flatten(1, 2).reshape(like.shape)


def largest_group(masks: Masks, m: int) -> dict[str, int]:
    """Return the most weights that any group of M keeps, by layer whose input M divides.

    It is the verifier of N:M: every value must be at most N.
    """
    return {
        name: int(keep.unflatten(1, (-1, m)).sum(dim=2).max())
        for name, keep in masks.items()
        if keep.shape[1] % m == 0
    }
