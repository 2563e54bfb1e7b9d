"""Computes every task's gradient from one forward pass without changing the model.

Under `torch.distributed` gradients are averaged over the ranks here, so everything computed
from them, above all masks, is identical on every rank.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.distributed
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from trainables.data.batch import Batch
from trainables.models.copies import unchanged
from trainables.models.passes import differentiating, predict, require_dense_gradients
from trainables.sparsity.method import MethodContext
from trainables.tasks.calls import loss_of

Gradients = dict[str, Tensor]  # by parameter name


def task_gradients(context: MethodContext, batch: Batch) -> Iterator[tuple[str, Gradients]]:
    """Yield (task, ∂L_k/∂w of the shared weights and its own) for every task in turn.

    It does one forward pass and T backward passes per micro-batch. There are
    `training.accumulation` micro-batches, whose gradients are averaged, as in the training step.
    Without accumulation only one task's gradients exist at a time, so drop them before asking for
    the next. Loss weights are left out, because a positive factor changes no ranking in a task.
    A task that no prunable weight serves has no say in masks and is passed over.
    """
    parts = micro_batches(batch, context.config.training.accumulation)
    visible = {task: context.registry.visible(task) for task in context.tasks}
    if len(parts) == 1:
        yield from _one_forward(context, batch, visible)
        return
    sums: dict[str, Gradients] = {}
    for part in parts:
        for task, gradients in _one_forward(context, part, visible, reduce=False):
            if task in sums:
                torch._foreach_add_(list(sums[task].values()), list(gradients.values()))
            else:
                sums[task] = gradients
    for task in list(sums):
        gradients = sums.pop(task)
        torch._foreach_div_(list(gradients.values()), len(parts))
        yield task, _averaged_over_ranks(gradients)


def joint_gradients(context: MethodContext, batch: Batch) -> Gradients:
    """Return ∂(Σ_k weight_k · L_k)/∂w of every prunable weight, from one forward and backward."""
    parts = micro_batches(batch, context.config.training.accumulation)
    total: Gradients = {}
    for part in parts:
        with scoring_mode(context.model):
            losses = _losses(context, part)
            weighted = [context.loss_weights[task] * loss for task, loss in losses.items()]
            loss = torch.stack(weighted).sum()
            with _differentiating(context, part):
                gradients = _grad(context, loss, context.registry.names, retain_graph=False)
        if total:
            torch._foreach_add_(list(total.values()), list(gradients.values()))
        else:
            total = gradients
    torch._foreach_div_(list(total.values()), len(parts))
    return _averaged_over_ranks(total)


def micro_batches(batch: Batch, num_parts: int) -> list[Batch]:
    """Return the batch cut along its first dimension, as gradient accumulation cuts it."""
    if num_parts == 1:
        return [batch]
    images = batch.images_BCHW.chunk(num_parts)
    targets = {task: target.chunk(num_parts) for task, target in batch.targets.items()}
    return [
        Batch(images_BCHW=image, targets={task: t[i] for task, t in targets.items()})
        for i, image in enumerate(images)
    ]


@contextmanager
def scoring_mode(model: nn.Module) -> Iterator[None]:
    """Enter training mode (batch statistics) and restore all state but the weights after.

    A scoring pass therefore changes no running statistics and no dropout stream, and a resumed
    run is the same with or without it.
    """
    with unchanged(model, parameters=False):
        model.train()
        yield


def _one_forward(
    context: MethodContext,
    batch: Batch,
    visible: Mapping[str, Sequence[str]],
    reduce: bool = True,
) -> Iterator[tuple[str, Gradients]]:
    with scoring_mode(context.model):
        losses = _losses(context, batch)
        while losses:
            task = next(iter(losses))
            # Pop the loss: it holds the only reference to that head's part of the graph, so its
            # activations are freed although the trunk's are retained for the others.
            loss = losses.pop(task)
            if not visible[task]:
                continue
            with _differentiating(context, batch):
                gradients = _grad(context, loss, visible[task], retain_graph=bool(losses))
            del loss
            yield task, _averaged_over_ranks(gradients) if reduce else gradients
            del gradients


def _losses(context: MethodContext, batch: Batch) -> dict[str, Tensor]:
    with torch.enable_grad():
        with context.autocast():
            # Use `forward`, not the call: a model compiled in place must run uncompiled here,
            # because compiled backward graphs free their buffers and refuse `retain_graph`.
            model = getattr(context.model, "_orig_mod", context.model)
            names = tuple(context.tasks)
            forward = functools.partial(model.forward, tasks=names)
            predictions = predict(model, batch.images_BCHW, names, forward)
        return {
            name: loss_of(name, task, predictions.pop(name), batch.targets[name])
            for name, task in context.tasks.items()
        }


def _differentiating(context: MethodContext, batch: Batch) -> AbstractContextManager[None]:
    def again() -> Tensor:
        return torch.stack(list(_losses(context, batch).values())).sum()

    return differentiating(context.model, tuple(context.tasks.values()), again)


def _grad(
    context: MethodContext, loss: Tensor, names: Iterable[str], *, retain_graph: bool
) -> Gradients:
    parameters = {name: context.registry.parameters[name] for name in names}
    if not loss.requires_grad:  # a batch without a single valid pixel
        return {name: torch.zeros_like(p) for name, p in parameters.items()}
    found: Sequence[Tensor | None]
    if _has_own_functions(loss):
        # Re-entrant checkpoints, for one, go backward on their own: their weights' gradients come
        # to `grad` alone.
        for parameter in context.model.parameters():
            parameter.grad = None
        loss.backward(retain_graph=retain_graph)
        found = [parameter.grad for parameter in parameters.values()]
        for parameter in parameters.values():
            parameter.grad = None
    else:
        wanted = [parameter for parameter in parameters.values() if parameter.requires_grad]
        gradients: Sequence[Tensor | None] = []
        if wanted:  # all may have been frozen since
            gradients = torch.autograd.grad(
                loss, wanted, retain_graph=retain_graph, allow_unused=True
            )
        by_id = {id(p): gradient for p, gradient in zip(wanted, gradients, strict=True)}
        found = [by_id.get(id(parameter)) for parameter in parameters.values()]
    require_dense_gradients(context.model, dict(zip(parameters, found, strict=True)))
    context.registry.scored |= {*parameters}
    context.registry.reached |= {n for n, g in zip(parameters, found, strict=True) if g is not None}
    return {
        name: torch.zeros_like(parameters[name]) if gradient is None else gradient
        for name, gradient in zip(parameters, found, strict=True)
    }


def _has_own_functions(loss: Tensor) -> bool:
    """Return whether the loss's graph has a step that is written in Python."""
    waiting = [loss.grad_fn]
    seen = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if isinstance(node, BackwardCFunction):
            return True
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
    return False


def _averaged_over_ranks(gradients: Gradients) -> Gradients:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for gradient in gradients.values():
            torch.distributed.all_reduce(gradient)
        torch._foreach_div_(list(gradients.values()), torch.distributed.get_world_size())
    return gradients
