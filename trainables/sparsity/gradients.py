"""Computes every task's gradient from one forward pass without changing the model.

Under `torch.distributed` gradients are averaged over the ranks here, so everything computed
from them, above all masks, is identical on every rank.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
import torch.distributed
from torch import Tensor, nn

from trainables.data.batch import Batch
from trainables.models.passes import differentiating, predict
from trainables.sparsity.method import MethodContext
from trainables.tasks.calls import loss_of

Gradients = dict[str, Tensor]  # by parameter name


def task_gradients(context: MethodContext, batch: Batch) -> Iterator[tuple[str, Gradients]]:
    """Yield (task, ∂L_k/∂w of the shared weights and its own) for every task in turn.

    It does one forward pass and T backward passes per micro-batch. There are
    `training.accumulation` micro-batches, whose gradients are averaged, as in the training step.
    Without accumulation only one task's gradients exist at a time, so drop them before asking for
    the next. Loss weights are left out, because a positive factor changes no ranking in a task.
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
    parameters = context.registry.parameters
    total: Gradients = {}
    for part in parts:
        with scoring_mode(context.model):
            losses = _losses(context, part)
            weighted = [context.loss_weights[task] * loss for task, loss in losses.items()]
            with _differentiating(context, part):
                gradients = _grad(torch.stack(weighted).sum(), parameters, retain_graph=False)
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
    """Enter training mode (batch statistics) and restore modes, buffers and random state after.

    A scoring pass therefore changes no running statistics and no dropout stream, and a resumed
    run is the same with or without it.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        model.train()
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            for module, training in modes:
                module.training = training


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
            parameters = {name: context.registry.parameters[name] for name in visible[task]}
            with _differentiating(context, batch):
                gradients = _grad(loss, parameters, retain_graph=bool(losses))
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


def _grad(loss: Tensor, parameters: Mapping[str, Tensor], *, retain_graph: bool) -> Gradients:
    if not loss.requires_grad:  # a batch without a single valid pixel
        return {name: torch.zeros_like(p) for name, p in parameters.items()}
    gradients = torch.autograd.grad(
        loss, list(parameters.values()), retain_graph=retain_graph, allow_unused=True
    )
    return {
        name: torch.zeros_like(parameters[name]) if gradient is None else gradient
        for name, gradient in zip(parameters, gradients, strict=True)
    }


def _averaged_over_ranks(gradients: Gradients) -> Gradients:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for gradient in gradients.values():
            torch.distributed.all_reduce(gradient)
        torch._foreach_div_(list(gradients.values()), torch.distributed.get_world_size())
    return gradients
