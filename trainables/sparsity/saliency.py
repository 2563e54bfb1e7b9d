"""Scores how much each weight matters, by task or for the joint loss; higher is better.

Published code divides each task's saliency by its sum. That changes no ranking within
a task, and only ranks are compared across tasks here, so scores are not divided.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from trainables.config import SCORES
from trainables.errors import unknown_name
from trainables.sparsity.gradients import joint_gradients, task_gradients
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.method import MethodContext
from trainables.sparsity.proposal import Scores


def magnitude(registry: MaskRegistry) -> Scores:
    """Return |w| of every prunable weight."""
    return {name: weight.detach().abs() for name, weight in registry.parameters.items()}


def task_saliency(context: MethodContext, kind: str, *, trained: bool = False) -> dict[str, Scores]:
    """Return the scores of each task's weights over `sparsity.saliency_batches` batches, by task.

    trained: the weights come from pre-training and are scored whatever `saliency_weights` says.

    taylor: Σ_batches |g_k · w|, which is |∂L_k/∂m| at m = 1 (SNIP, Lee et al. 2019, by task:
      DiSparse, Sun et al. 2022; absolute per batch as in its released `disparse_prune_static`,
      so batches with opposite signs do not cancel).
    published: Σ_batches |g_k| · w², as the released `disparse_prune_pretrained` computes, the
      path of Taskonomy.
    magnitude: |w| (Han et al. 2015), as the released `disparse_prune_pretrained_l1`, the path of
      NYU-v2 and Cityscapes; the same for all tasks on shared weights. It uses the current weights,
      whatever `saliency_weights` says.
    """
    registry = context.registry
    if kind == "magnitude":
        scores = magnitude(registry)
        return {t: {n: scores[n] for n in registry.visible(t)} for t in context.tasks}
    if kind not in SCORES:
        raise unknown_name("score", kind, SCORES)
    power = 1 if kind == "taylor" else 2
    totals: dict[str, Scores] = {}
    with nullcontext() if trained else initial_weights(context):
        # The weights are the same for all batches, so |g·w| sums to |w|·Σ|g|.
        for batch in context.batches(context.config.sparsity.saliency_batches):
            for task, gradients in task_gradients(context, batch):
                absolute = torch._foreach_abs(list(gradients.values()))
                if task in totals:
                    torch._foreach_add_(list(totals[task].values()), absolute)
                else:
                    totals[task] = dict(zip(gradients, absolute, strict=True))
                del gradients, absolute
        for scores in totals.values():
            for name, score in scores.items():
                score.mul_(registry.parameters[name].detach().abs() ** power)
    return totals


def joint_saliency(context: MethodContext) -> Scores:
    """Return |Σ_batches g · w| of the joint loss, which is |∂L/∂m| on one large batch.

    Source: SNIP, Lee et al. 2019, eq. 5.
    """
    parameters = context.registry.parameters
    totals: Scores = {}
    with initial_weights(context):
        for batch in context.batches(context.config.sparsity.saliency_batches):
            gradients = joint_gradients(context, batch)
            if totals:
                torch._foreach_add_(list(totals.values()), list(gradients.values()))
            else:
                totals = gradients
        for name, score in totals.items():
            score.mul_(parameters[name].detach()).abs_()
    return totals


@contextmanager
def initial_weights(context: MethodContext) -> Iterator[None]:
    """Draw new prunable weights if `sparsity.saliency_weights` is "xavier", and restore them after.

    "actual" scores the initial weights that are then trained, as in the SNIP paper (Lee et al.
    2019, Algorithm 1). Its released code, and DiSparse's (`disparse_prune_static`), scores a copy
    of the network with Xavier-normal weights (Glorot & Bengio 2010). New weights are drawn only for
    the first pruning of a dense network; later prunings of a gradual schedule score the trained
    weights.
    """
    registry = context.registry
    fresh = registry.kept == registry.total
    if context.config.sparsity.saliency_weights != "xavier" or not fresh:
        yield
        return
    before = {name: weight.detach().clone() for name, weight in registry.parameters.items()}
    try:
        with torch.no_grad():
            for weight in registry.parameters.values():
                # Drawn on the CPU in row-major order, so that devices and layouts agree.
                drawn = torch.empty(weight.shape)
                torch.nn.init.xavier_normal_(drawn, generator=context.generator)
                weight.copy_(drawn)
        yield
    finally:
        with torch.no_grad():
            for name, weight in registry.parameters.items():
                weight.copy_(before[name])
