"""The contract of a multitask network, ours or a user's."""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from trainables.errors import unknown_name

SHARED = "shared"


@runtime_checkable
class MultitaskModel(Protocol):
    """Any `nn.Module` with these members, ours or by `--set model.name=package.module:factory`.

    The factory is called as `factory(config: ModelConfig, num_channels: dict[task, int])`.

    A model may also have any of these; the training loop honours them, nothing else reads them:

    - `start_step(phase: str, step: int) -> None`: called before every training step; `phase` is
      "pretrain" or "train", `step` counts from 0 within it. A fresh model must behave as in
      "train", for that is how a finished one is loaded.
    - `auxiliary_loss(image_losses: Mapping[str, Tensor]) -> Tensor`: a scalar, called after the
      forward pass of every training step of phase "train" and added to the weighted losses of
      the tasks. With accumulation it is called once for each micro-batch.
    - `needs_image_losses = True` (class attribute): `image_losses[task]`, of shape (B,), is then
      the unweighted loss of each image, detached; without it the mapping is empty.
    - `learning_rate_scales() -> Mapping[str, float]`: factors on the learning rate by parameter
      name; parameters not named have 1.

    Whatever forward draws in training comes from torch's global generator, which the loop seeds
    for each step; in evaluation it draws nothing.
    """

    tasks: tuple[str, ...]

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """`{task: prediction_BCHW}` at the network's output stride, for all or the named tasks."""
        ...

    def owners(self) -> dict[str, str]:
        """For every parameter name (as in `named_parameters`): `SHARED`, or the task it serves."""
        ...


def chosen_tasks(valid: Sequence[str], tasks: Sequence[str] | None) -> tuple[str, ...]:
    """The tasks that `forward` was asked for; None means all. Unknown ones: `UserError`."""
    wanted = tuple(valid) if tasks is None else tuple(tasks)
    for task in wanted:
        if task not in valid:
            raise unknown_name("task of the model", task, valid)
    return wanted


def owners_by_group(model: nn.Module, private: Collection[str]) -> dict[str, str]:
    """`owners()` of a model whose `private` members are dicts by task; the rest is `SHARED`."""
    owners = {}
    for name, _ in model.named_parameters():
        group, _, rest = name.partition(".")
        owners[name] = rest.partition(".")[0] if group in private else SHARED
    return owners


def prunable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Convolution and linear weights, by parameter name, in definition order.

    Biases and normalisation are never pruned.
    """
    found = {}
    for name, child in module.named_modules():
        if isinstance(child, (nn.Conv2d, nn.Linear)):
            weight = child.weight
            assert isinstance(weight, nn.Parameter), "parametrised weights cannot be masked"
            found[f"{name}.weight" if name else "weight"] = weight
    return found
