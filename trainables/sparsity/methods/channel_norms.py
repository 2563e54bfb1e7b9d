"""Scores channels as the field's baselines do: by a norm of their weights, or by Taylor's term.

They prune a trained dense model at once, before fine-tuning, and know nothing of tasks.
"""

import torch
from torch import Tensor

from trainables.errors import UserError
from trainables.sparsity.gradients import joint_gradients
from trainables.sparsity.method import Method, MethodContext
from trainables.sparsity.proposal import Proposal
from trainables.sparsity.structures.channels import ChannelStructure


class ChannelL1(Method):
    """Keeps the channels whose weights have the largest mean |w| (Li et al. 2017).

    Deviation. A unit of tied channels is scored over all its weights, those that read it included;
    the paper scores each filter alone.
    """

    power = 1

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep the channels of largest norm, the same share in every layer by default."""
        structure = channels_of(context)
        weights = context.registry.parameters
        powers = {n: w.detach().abs() ** self.power for n, w in weights.items()}
        sizes = {n: torch.ones_like(w) for n, w in weights.items()}
        norms = structure.units.sums(powers) / structure.units.sums(sizes)
        masks = structure.prune_units(norms, density, context.generator)
        return Proposal(masks=masks)


class ChannelL2(ChannelL1):
    """Keeps the channels whose weights have the largest root mean square (He et al. 2018)."""

    power = 2


class ChannelTaylor(Method):
    """Keeps the channels of largest Σ_batches (Σ_weights g · w)² (Molchanov et al. 2019, eq. 8).

    g is the gradient of the joint loss. Channels of all layers are compared.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Keep the channels of largest squared Taylor term."""
        structure = channels_of(context)
        parameters = context.registry.parameters
        total = torch.zeros(structure.units.num_units, dtype=torch.float64)
        for batch in context.batches(context.config.sparsity.saliency_batches):
            gradients = joint_gradients(context, batch)
            terms: dict[str, Tensor] = {
                name: gradient * parameters[name].detach() for name, gradient in gradients.items()
            }
            total += structure.units.sums(terms).square()
        return Proposal(masks=structure.prune_units(total, density, context.generator))


def channels_of(context: MethodContext) -> ChannelStructure:
    """Return the trial's channel structure. Raises `UserError` if it has another one."""
    if not isinstance(context.structure, ChannelStructure):
        raise UserError(
            f"`{context.config.method}` prunes channels, got structure "
            f"{context.config.sparsity.structure}; set sparsity.structure=channel"
        )
    return context.structure
