"""A network as users write them, with one habit that a trial has to take.

Every network has a stem, a middle part of eight channels and a 1×1 head for each task. `prunable`
names the weights that are masked beside the heads' (and the stem's, unless it is frozen); a network
that is refused says by `refused` which layer the message names.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 8


def conv(c_in: int = WIDTH, c_out: int = WIDTH, **arguments: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1, **arguments)


class Zoo(nn.Module):
    prunable: ClassVar[tuple[str, ...]] = ()
    refused: ClassVar[str] = ""
    said: ClassVar[str] = ""  # of what stays dense

    def __init__(self, config: object, num_channels: dict[str, int]) -> None:
        super().__init__()
        self.tasks = tuple(num_channels)
        self.stem = nn.Conv2d(3, WIDTH, 3, stride=2, padding=1)
        self.parts()
        self.heads = nn.ModuleDict({t: nn.Conv2d(WIDTH, n, 1) for t, n in num_channels.items()})
        self.finish()

    def parts(self) -> None: ...

    def finish(self) -> None: ...

    def middle(self, features: Tensor) -> Tensor:
        return features

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        features = self.middle(F.relu(self.stem(images)))
        return {task: self.heads[task](features) for task in tasks or self.tasks}

    def owners(self) -> dict[str, str]:
        return {
            name: name.split(".")[1] if name.startswith("heads.") else "shared"
            for name, _ in self.named_parameters()
        }

    @classmethod
    def masked(cls, tasks: Sequence[str]) -> set[str]:
        return {"stem.weight", *cls.prunable, *(f"heads.{task}.weight" for task in tasks)}
