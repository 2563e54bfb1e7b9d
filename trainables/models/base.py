"""The contract of a multitask network, ours or a user's."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

SHARED = "shared"


@runtime_checkable
class MultitaskModel(Protocol):
    """Any `nn.Module` with these members, ours or by `--set model.name=package.module:factory`.

    The factory is called as `factory(config: ModelConfig, num_channels: dict[task, int])`.
    """

    tasks: tuple[str, ...]

    def forward(self, images_BCHW: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        """`{task: prediction_BCHW}` at the network's output stride, for all or the named tasks."""
        ...

    def owners(self) -> dict[str, str]:
        """For every parameter name (as in `named_parameters`): `SHARED`, or the task it serves."""
        ...


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
