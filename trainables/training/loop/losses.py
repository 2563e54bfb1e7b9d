"""Computes the training loss of one micro-batch: the tasks' weighted losses and the network's."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainables.data.batch import Batch
from trainables.errors import UserError
from trainables.tasks.base import Task
from trainables.tasks.calls import loss_of
from trainables.user_code import calling, described


def weighted_loss(weights: Mapping[str, float], losses: Mapping[str, Tensor]) -> Tensor:
    """Return Σ_k weight_k · L_k, a scalar."""
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def task_losses(
    tasks: Mapping[str, Task], predictions: Mapping[str, Tensor], batch: Batch
) -> dict[str, Tensor]:
    """Return the unweighted scalar loss of every task.

    predictions: by task, (B, channels, h, w) at any output stride.
    """
    return {
        name: loss_of(name, task, predictions[name], batch.targets[name])
        for name, task in tasks.items()
    }


def auxiliary_loss(
    model: nn.Module,
    tasks: Mapping[str, Task],
    predictions: Mapping[str, Tensor],
    batch: Batch,
) -> Tensor | None:
    """Return the scalar that the network itself adds, or None if it adds nothing.

    `trainables.models.base` describes the members of such a network.
    """
    if not hasattr(model, "auxiliary_loss"):
        return None
    needed = getattr(model, "needs_image_losses", False)
    losses = _image_losses(tasks, predictions, batch) if needed else {}
    with calling(f"auxiliary_loss() of model {described(model)!r}", model):
        added: object = cast(Any, model).auxiliary_loss(losses)
    if added is None:
        return None
    if isinstance(added, (int, float)):
        # Not `torch.tensor`, which copies from the host, and so makes it wait for the device.
        return torch.full((), float(added), device=batch.images_BCHW.device)
    if not isinstance(added, Tensor) or added.ndim:
        shape = f"shape {tuple(added.shape)}" if isinstance(added, Tensor) else repr(added)
        raise UserError(
            f"auxiliary_loss() of model {described(model)!r} must return a tensor without "
            f"dimensions, got {shape}; return a sum or a mean"
        )
    return added


@torch.no_grad()
def _image_losses(
    tasks: Mapping[str, Task], predictions: Mapping[str, Tensor], batch: Batch
) -> dict[str, Tensor]:
    """Return the unweighted loss of every single image, (B,) by task."""
    return {
        name: torch.stack(
            [
                loss_of(name, task, predictions[name][i : i + 1], batch.targets[name][i : i + 1])
                for i in range(len(batch.images_BCHW))
            ]
        )
        for name, task in tasks.items()
    }


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Return the batch as `parts` equal micro-batches, in order."""
    if parts == 1:
        return [batch]
    images = batch.images_BCHW.chunk(parts)
    targets = {name: target.chunk(parts) for name, target in batch.targets.items()}
    return [
        Batch(images_BCHW=image, targets={name: chunks[i] for name, chunks in targets.items()})
        for i, image in enumerate(images)
    ]
