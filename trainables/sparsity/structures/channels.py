"""Prunes whole channels with everything that reads them, so that they can be taken out."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.config import SparsityConfig
from trainables.errors import UserError
from trainables.registry.structures import require_channel_allocation
from trainables.sparsity.masking.channel_units import ChannelUnits, place_in_group
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.proposal import Masks, Proposal, Scores
from trainables.sparsity.selection import TieOrder, order_keys, require_finite
from trainables.sparsity.structures.filling import Coefficients, dense_cost, fill
from trainables.sparsity.structures.structure import Structure
from trainables.sparsity.structures.voting import votes_required


class ChannelStructure(Structure):
    """Keeps the channel units of highest score whose network meets the budget from below.

    A unit's score is the sum of its weights' scores; a task sums over the weights that it sees. The
    vote is per unit, with entries as in `trainables.sparsity.structures.voting`: a task ranks the
    units that it computes, and a unit of several tasks enters with the j-th of their ranks.

    Allocation "global" compares the units of all layers, "uniform" keeps the same share of every
    layer's (up to the budget's last units). The budget is a share of the network's parameters,
    biases and normalisation included, or of its FLOPs (`sparsity.counts`).

    flops: the FLOPs of each layer, by the name of its weight; needed where they are counted.
    Raises `UserError` for another allocation.
    """

    def __init__(
        self,
        registry: MaskRegistry,
        config: SparsityConfig,
        flops: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(registry, config)
        require_channel_allocation(config.allocation)
        assert registry.units is not None, "the registry must know the units"
        self.units: ChannelUnits = registry.units
        self._cost: Coefficients = dict.fromkeys(self.units.shapes, 1.0)
        if config.counts == "flops":
            assert flops is not None, "FLOPs are counted, so they must be given"
            sizes = {name: math.prod(shape) for name, shape in self.units.shapes.items()}
            self._cost = {name: flops[name] / sizes[name] for name in sizes if flops.get(name)}
        # A target that cannot be met is said before anything is trained.
        self._filled(torch.arange(self.units.num_units), 1 - config.target)

    @property
    def left_dense(self) -> dict[str, str]:
        """Return the layers whose channels cannot be taken out."""
        return dict(self.units.left_dense)

    def prune(self, scores: Scores, density: float, generator: torch.Generator) -> Masks:
        """Return the masks of the units of highest score."""
        require_finite(scores)
        return self.prune_units(self.units.sums(scores), density, generator)

    def prune_units(self, unit_scores: Tensor, density: float, generator: torch.Generator) -> Masks:
        """Return the masks of the units of highest score, one score for each unit."""
        require_finite({"channels": unit_scores})
        present = self.units.kept(self.registry.keep())
        seen = torch.ones_like(present)
        ties = TieOrder.drawn(generator)
        entry = self._entry(unit_scores, seen, present, ties)
        return self._masks(self._fill(entry, density, ties))

    def draw(self, density: float, generator: torch.Generator) -> Masks:
        """Return the masks of a uniform draw of units."""
        drawn = torch.rand(self.units.num_units, generator=generator)
        return self.prune_units(drawn, density, generator)

    def vote(
        self, scores: Mapping[str, Scores], density: float, generator: torch.Generator
    ) -> Proposal:
        """Settle the vote on units."""
        units, ties = self.units, TieOrder.drawn(generator)
        present = units.kept(self.registry.keep())
        ballots, seers = [], []
        for task_scores in scores.values():
            require_finite(task_scores)
            seen = self._computed_by(task_scores)
            ballots.append(self._entry(units.sums(task_scores), seen, present, ties))
            seers.append(seen)
        num_seers = torch.stack(seers).sum(dim=0)
        arbiter = self.config.arbiter
        required = torch.tensor([votes_required(arbiter, n) for n in range(1, len(scores) + 1)])
        ordered = torch.stack(ballots).sort(dim=0).values
        needed = required[(num_seers - 1).clamp_min(0)] - 1
        entry = ordered.gather(0, needed[None])[0]
        keep = self._fill(entry, density, ties)
        last = entry[keep].max()
        votes = {}
        for (task, own), ballot in zip(scores.items(), ballots, strict=True):
            votes[task] = self._masks(ballot <= last, tuple(own))
        return Proposal(masks=self._masks(keep), votes=votes)

    def grow(self, scores: Scores, kept: Masks, counts: Mapping[str, int], ties: TieOrder) -> Masks:
        """Raise `UserError`: channels do not grow back."""
        raise UserError(
            "structure channel has no regrowth: a channel that grows back starts at zero on both "
            "sides, so no gradient reaches it; use structure weight or N:M, or a method that does "
            "not regrow"
        )

    def grow_by_vote(
        self, scores: Mapping[str, Scores], kept: Masks, counts: Mapping[str, int], ties: TieOrder
    ) -> Proposal:
        """Raise `UserError`, as `grow`."""
        return Proposal(masks=self.grow({}, kept, counts, ties))

    def _computed_by(self, scores: Scores) -> Tensor:
        """Return the units that a task ranks, bool: those that its scored weights compute.

        Channels that no prunable layer computes, such as those of a transposed convolution, are
        ranked by every task that reads them.
        """
        computed = self._touched(scores, rows_only=True)
        orphans = ~self._touched(self.registry.parameters, rows_only=True)
        return computed | (orphans & self._touched(scores, rows_only=False))

    def _touched(self, tensors: Mapping[str, Tensor], *, rows_only: bool) -> Tensor:
        touched = torch.zeros(self.units.num_units + 1, dtype=torch.bool)
        for name in tensors:
            for dim, numbers in self.units.axes.get(name, {}).items():
                if not rows_only or self.units.rows.get(name) == dim:
                    touched[numbers] = True
        return touched[:-1]

    def _entry(self, scores: Tensor, seen: Tensor, present: Tensor, ties: TieOrder) -> Tensor:
        """Return rank / number of units seen, overall or in the group; infinite where not present.

        Of equal scores, the seeded order decides.
        """
        keys = order_keys(scores, ties, torch.arange(len(scores)))
        order = keys.argsort(descending=True)
        order = order[(seen & present)[order]]
        entry = torch.full((len(scores),), torch.inf, dtype=torch.float64)
        if self.config.allocation == "global":
            ranks = torch.arange(1, len(order) + 1, dtype=torch.float64)
            entry[order] = ranks / seen.sum()
            return entry
        group = self.units.group
        by_group = order[group[order].argsort(stable=True)]
        ranks = place_in_group(group[by_group]) + 1
        sizes = torch.bincount(group[seen], minlength=len(self.units.groups))
        entry[by_group] = ranks.double() / sizes[group[by_group]]
        return entry

    def _fill(self, entry: Tensor, density: float, ties: TieOrder) -> Tensor:
        # Of equal entries, those of the highest place in the seeded order come first.
        by_place = ties.place(torch.arange(len(entry))).argsort(descending=True)
        order = by_place[entry[by_place].argsort(stable=True)]
        order = order[entry[order] < torch.inf]
        return self._filled(order, density)

    def _filled(self, order: Tensor, density: float) -> Tensor:
        budget = density * dense_cost(self.units, self._cost)
        return fill(self.units, order, budget, self._cost, round_to=self.config.round_to)

    def _masks(self, keep: Tensor, names: tuple[str, ...] | None = None) -> Masks:
        parameters = self.registry.parameters
        masks = self.units.masks(keep, names or self.registry.names)
        return {name: mask.to(parameters[name].device) for name, mask in masks.items()}
