"""Implements DiSparse: tasks rank their weights alone, and an arbiter decides on shared ones.

DiSparse: Disentangled Sparsification for Multitask Model Compression, Sun et al., CVPR 2022.
`trainables.sparsity.structures.voting` settles the vote.
"""

from collections.abc import Mapping

import torch

from trainables.data.batch import Batch
from trainables.sparsity.gradients import task_gradients
from trainables.sparsity.method import Method, MethodContext
from trainables.sparsity.methods.rigl import drop, num_survivors, starting_masks
from trainables.sparsity.proposal import Masks, Proposal, Scores
from trainables.sparsity.saliency import task_saliency
from trainables.sparsity.selection import TieOrder, require_finite, select
from trainables.sparsity.structures.voting import votes_required


class DisparseStatic(Method):
    """Prunes by a vote before training: tasks decide on their heads, the arbiter on shared weights.

    Deviations. ρ is solved so that the count is exact (see the module). The actual initial
    weights are scored unless `saliency_weights` is "xavier". Per-layer allocations
    settle within each layer. Under a gradual schedule the remaining weights are scored and
    voted on again at every pruning, and pruned weights stay pruned.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Let the tasks vote by their saliency, over all layers or within each."""
        score = context.config.sparsity.score
        scores = task_saliency(context, score, trained=self.needs_pretraining)
        return context.structure.vote(scores, density, context.generator)


class DisparsePretrained(DisparseStatic):
    """Prunes a trained dense model by the same vote, before fine-tuning.

    Scores: `taylor` |g·w| (default of the presets); `published` Σ|g|·w²; `magnitude`, the
    released path for NYU-v2 and Cityscapes (`saliency.task_saliency` has the sources).
    Magnitude is the same for all tasks on shared weights, so nothing is disentangled there. Tasks
    differ only by the effect of their heads on ρ.
    """


class DisparseDynamic(Method):
    """Drops by magnitude and grows what the tasks vote for, layer by layer.

    Every task alone ranks a layer's inactive weights, including those just dropped, by
    |∂L_k/∂w| at the sparse weights. `regrowth.budget`:
    exact (ours): the vote is settled by rank, so a layer ends at its allocated count.
    published (the released `dynamic_disparse`): every task grows as many as were to be dropped
      and the arbiter combines them; the union ("unanimous") overshoots, to (1 + (T-1)·alpha) of
      the count at most, until the next drop (which, as in the released
      `dynamic_disparse_prune`, goes down to (1 - alpha) of the allocated count).
      An arbiter that requires several votes undershoots if tasks disagree, to (1 - alpha) of
      the count at least; a pruning of a gradual schedule then removes less, or nothing.
      The difference after the last update remains. It is almost nothing if annealing vanishes by
      T_end (cosine, linear, inverse power) and full with constant annealing; see `cost/density`.
      (The released loop drops once more at T_end, and so do we with `regrowth.gradient_at` dense.)

    The votes hold only what each task wants to grow; on the surviving weights all tasks agree.

    `regrowth.gradient_at`:
    sparse (ours): growth gradients are those of the sparse network, as in RigL. A grown weight
      starts at 0 with moments 0, and an update takes the place of an optimiser's step.
    dense (the released `dynamic_disparse` and `disparse_dynamic_train`): pruned weights keep the
      values they had, which moments and weight decay go on to move (`pruned_values`). The growth
      gradients are those of the dense network that has these stale values in place; a grown weight
      resumes its own; no moment is cleared; the optimiser steps on update iterations as well; the
      first update is at iteration 0. The grown sets hardly overlap with ours (docs/released.md).
    With both, a weight that is dropped and grown again in one update keeps its value.

    Deviations of both. Gradients are averaged over micro-batches before the absolute value, as the
    step itself averages them; the released code sums absolute gradients of two or eight chunks. It
    drops by the weights of the last forward pass, one step old; we by the present ones. It grows
    every weight whose gradient ties with the last that is wanted; we settle ties. Its first masks
    leave the first layer dense, until the update of iteration 0.
    """

    def prune(self, context: MethodContext, density: float) -> Proposal:
        """Return the masks to start from (`rigl.starting_masks`)."""
        return Proposal(masks=starting_masks(context, density))

    def regrow(
        self, context: MethodContext, batch: Batch, drop_fraction: float, density: float
    ) -> Proposal:
        """Drop the smallest weights of each layer and grow what the tasks vote for."""
        registry, config = context.registry, context.config
        if density >= 1.0:  # nothing is inactive
            return Proposal(masks=registry.keep())
        counts = context.structure.counts(density)
        survivors = num_survivors(registry, counts, drop_fraction)
        ties = TieOrder.drawn(context.generator)
        kept = drop(registry, survivors, ties)
        scores = {
            task: {name: g.abs_() for name, g in gradients.items()}
            for task, gradients in task_gradients(context, batch)
        }
        for task_scores in scores.values():
            require_finite(task_scores)
        if config.regrowth.budget == "exact":
            grown = context.structure.grow_by_vote(scores, kept, counts, ties)
        else:
            quotas = {name: counts[name] - survivors[name] for name in registry.names}
            grown = _grow_published(context, scores, kept, quotas, ties)
        masks = {name: kept[name] | grown.masks[name] for name in registry.names}
        return Proposal(masks=masks, votes=grown.votes)


def _grow_published(
    context: MethodContext,
    scores: Mapping[str, Scores],
    kept: Masks,
    quotas: Mapping[str, int],
    ties: TieOrder,
) -> Proposal:
    registry = context.registry
    masks: Masks = {}
    votes: dict[str, Masks] = {task: {} for task in scores}
    for name in registry.names:
        for task, own in scores.items():
            if name in own:
                one_layer = ({name: own[name]}, {name: quotas[name]}, ties, {name: ~kept[name]})
                votes[task] |= select(*one_layer)
        ballots = [vote[name] for vote in votes.values() if name in vote]
        required = votes_required(context.config.sparsity.arbiter, len(ballots))
        masks[name] = torch.stack(ballots).sum(dim=0) >= required
    return Proposal(masks=masks, votes=votes)
