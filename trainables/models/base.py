"""Defines the contract of a multitask network, ours or a user's."""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from trainables.errors import UserError, unknown_name

SHARED = "shared"


@runtime_checkable
class MultitaskModel(Protocol):
    """Describes an `nn.Module` with these members, ours or a user's own.

    A user's own is named by `--set model.name=package.module:factory`. The factory is called as
    `factory(config: ModelConfig, num_channels: dict[task, int])`.

    A model may also have any of these members, which the training loop reads:

    - `start_step(phase: str, step: int) -> None`: called before every training step; `phase` is
      "pretrain" or "train", `step` counts from 0 within it. A new model must behave as in "train",
      because a finished model is loaded into a new one.
    - `auxiliary_loss(image_losses: Mapping[str, Tensor]) -> Tensor`: a scalar, called after the
      forward pass of every training step of phase "train" and added to the weighted losses of
      the tasks. With accumulation it is called once for each micro-batch.
    - `needs_image_losses = True` (class attribute): `image_losses[task]`, of shape (B,), is then
      the unweighted loss of each image, detached; without it the mapping is empty.
    - `learning_rate_scales() -> Mapping[str, float]`: factors on the learning rate by parameter
      name; parameters not named have 1.

    These members only matter for structure channel, which takes channels out of the network:

    - `channel_parameters() -> Mapping[str, tuple[int, str]]`: parameters outside layers that run
      along channels, by name: the dimension, and the layer whose output channels these are.
    - `channel_subspaces() -> Mapping[str, int]`: layers whose C output channels are n subspaces,
      so that channels c, c + C/n, … are kept or taken out together: n by layer name.

    In training, forward draws random numbers from torch's global generator, which the loop seeds
    for each step. In evaluation it must not draw any.
    """

    tasks: tuple[str, ...]

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return `{task: prediction_BCHW}` at the output stride, for all or the named tasks."""
        ...

    def owners(self) -> dict[str, str]:
        """Return `SHARED` or the task it serves for every name in `named_parameters`."""
        ...


def chosen_tasks(valid: Sequence[str], tasks: Sequence[str] | None) -> tuple[str, ...]:
    """Return the tasks asked for; None means all. Raises `UserError` for an unknown task."""
    wanted = tuple(valid) if tasks is None else tuple(tasks)
    for task in wanted:
        if task not in valid:
            raise unknown_name("task of the model", task, valid)
    return wanted


def owners_by_group(model: nn.Module, private: Collection[str]) -> dict[str, str]:
    """Return the owners in a model whose `private` members are dicts by task; else `SHARED`."""
    owners = {}
    for name, _ in model.named_parameters():
        group, _, rest = name.partition(".")
        owners[name] = rest.partition(".")[0] if group in private else SHARED
    return owners


def prunable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return convolution and linear weights, by parameter name, in definition order.

    Biases and normalisation are never pruned. Raises `UserError`, naming the layer, for a weight
    that is no parameter but computed from others.
    """
    found = {}
    for name, child in module.named_modules():
        if isinstance(child, (nn.Conv2d, nn.Linear)):
            weight = child.weight
            full = f"{name}.weight" if name else "weight"
            if not isinstance(weight, nn.Parameter):
                raise UserError(
                    f"`{full}` ({type(child).__name__}) must be an ordinary parameter to be "
                    "masked, got one that is computed from others (a weight or spectral norm, "
                    "another parametrisation, or torch.nn.utils.prune); build the layer without, "
                    "or end it by torch.nn.utils.parametrize.remove_parametrizations or "
                    "torch.nn.utils.prune.remove"
                )
            found[full] = weight
    return found
