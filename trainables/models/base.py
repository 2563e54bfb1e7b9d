"""Defines the contract of a multitask network, ours or a user's."""

from collections.abc import Collection, Sequence
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn

from trainables.errors import UserError, unknown_name

SHARED = "shared"

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PRUNABLE = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)


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

    On a GPU the training step is recorded once and replayed (`training.graph`). A network that
    reads a value on the host, draws numbers elsewhere, counts in Python, or has `start_step` runs
    line by line instead; the trial says why.
    """

    tasks: tuple[str, ...]

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return `{task: prediction_BCHW}` at the output stride, for all or the named tasks."""
        ...

    def owners(self) -> dict[str, str]:
        """Return `SHARED` or the task it serves for every name in `named_parameters`.

        A network of the user's own is also asked by a backward pass of each task what its weights
        serve, and that decides (`trainables.models.service`).
        """
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


def prunable_layers(module: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the layers whose weights can be pruned, by parameter name, in definition order.

    These are convolutions and transposed ones in one, two and three dimensions, and linear layers.
    A weight of several layers, or of one layer with several names, has one name: its name in
    `named_parameters`. Raises `UserError` for a weight that is computed anew in every pass: zeros
    that a mask puts there would not stay.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, list[nn.Module]] = {}
    for path, child in module.named_modules():
        if not isinstance(child, PRUNABLE):
            continue
        # Not `child.weight`: to read a computed weight may change what it is computed from.
        own = dict(child.named_parameters(recurse=False, remove_duplicate=False))
        if "weight" in dict(child.named_buffers(recurse=False)):
            continue  # a fixed one
        if "weight" not in own:
            if not any(parameter.requires_grad for parameter in child.parameters()):
                continue  # frozen, so nothing would be pruned
            raise UserError(
                f"the weight of `{path}` ({type(child).__name__}) must be a parameter that a mask "
                f"can hold at zero, but it is computed from {_sources(child)} in every pass (a "
                "parametrisation, spectral or weight norm, or torch.nn.utils.prune); build "
                "the layer without, or end it by "
                "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.prune.remove"
            )
        found.setdefault(names[id(own["weight"])], []).append(child)
    return found


def prunable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of `prunable_layers` by parameter name; tied ones are there once.

    Biases and normalisation are never pruned. Raises `UserError`, naming the layer, for a weight
    that is no parameter but computed from others.
    """
    parameters = dict(module.named_parameters())
    return {name: parameters[name] for name in prunable_layers(module)}


def owners_by_name(model: nn.Module) -> dict[str, str]:
    """Return what `owners()` says, under the names of `named_parameters`.

    A tied parameter may be named by any of its names. Where those have different owners, it is
    shared.
    """
    given = cast(MultitaskModel, model).owners()
    first: dict[int, str] = {}
    owners: dict[str, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        if name in given:
            owner = given[name]
            owners[known] = owner if owners.get(known, owner) == owner else SHARED
    return owners


def _sources(layer: nn.Module) -> str:
    return ", ".join(name for name, _ in layer.named_parameters() if name != "bias") or "a tensor"
