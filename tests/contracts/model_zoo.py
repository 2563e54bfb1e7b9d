"""Networks as users write them: every habit that a trial has to take, in one small network each.

Every network has a stem, a middle part of eight channels and a 1×1 head for each task. `prunable`
names the weights that are masked beside the heads' (and the stem's, unless it is frozen); a network
that is refused says by `refused` which layer the message names.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

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


class TwoNames(Zoo):
    """One block for all levels of a pyramid, held by a list, a dict and an attribute."""

    prunable = ("levels.0.0.weight",)

    def parts(self) -> None:
        block = nn.Sequential(conv(), nn.BatchNorm2d(WIDTH))
        self.levels = nn.ModuleList([block, block])
        self.by_name = nn.ModuleDict({"fine": block[0]})
        self.again = block

    def middle(self, features: Tensor) -> Tensor:
        coarse = self.levels[1](F.avg_pool2d(features, 2))
        fine = self.by_name["fine"](self.again(features))
        return F.relu(fine) + F.interpolate(coarse, features.shape[-2:])


class KeepsTensors(Zoo):
    """Keeps features, a history, a counter and an average of its own between passes."""

    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()
        self.average = torch.zeros(WIDTH)
        self.history: list[Tensor] = []
        self.counts = {"passes": 0}
        self.passes = 0

    def middle(self, features: Tensor) -> Tensor:
        self.last = self.mix(features)
        self.passes += 1
        self.counts["passes"] += 1
        self.history = [*self.history[-1:], self.last]
        self.average.mul_(0.9).add_(features.detach().mean((0, 2, 3)), alpha=0.1)
        return self.last - self.average[:, None, None]


class SharedNorm(Zoo):
    """One normalisation after every convolution."""

    prunable = ("first.weight", "second.weight")

    def parts(self) -> None:
        self.first, self.second, self.norm = conv(), conv(), nn.BatchNorm2d(WIDTH)
        self.norms = nn.ModuleList([self.norm, self.norm])

    def middle(self, features: Tensor) -> Tensor:
        first = F.relu(self.norms[0](self.first(features)))
        return F.relu(self.norms[1](self.second(first)))


class TiedToEmbedding(Zoo):
    prunable = ("codes.weight",)

    def parts(self) -> None:
        self.codes = nn.Embedding(12, WIDTH)
        self.to_codes = nn.Linear(WIDTH, 12, bias=False)
        self.to_codes.weight = self.codes.weight

    def middle(self, features: Tensor) -> Tensor:
        share = self.to_codes(features.movedim(1, -1)).softmax(-1)
        return features + (share @ self.codes.weight).movedim(-1, 1)


class TiedByAnotherName(TiedToEmbedding):
    """The owner of the tied weight is given under the name of the linear layer."""

    def owners(self) -> dict[str, str]:
        owners = super().owners()
        owners["to_codes.weight"] = owners.pop("codes.weight")
        return owners


class TiedHeads(Zoo):
    """The heads of all tasks begin with one convolution, which belongs to the first by name."""

    prunable = ()

    def finish(self) -> None:
        first = conv()
        last = dict(self.heads)
        self.heads = nn.ModuleDict({t: nn.Sequential(conv(), head) for t, head in last.items()})
        for head in self.heads.values():
            head[0].weight = first.weight

    @classmethod
    def masked(cls, tasks: Sequence[str]) -> set[str]:
        heads = {f"heads.{task}.1.weight" for task in tasks}
        return {"stem.weight", f"heads.{tasks[0]}.0.weight", *heads}


class Frozen(Zoo):
    """A backbone that was trained elsewhere."""

    prunable = ("mix.weight",)
    said = "frozen (stem, norm)"

    def parts(self) -> None:
        self.norm, self.mix = nn.BatchNorm2d(WIDTH), conv()
        for part in (self.stem, self.norm):
            part.requires_grad_(False)
        self.norm.eval()

    def middle(self, features: Tensor) -> Tensor:
        return F.relu(self.mix(self.norm(features)))

    @classmethod
    def masked(cls, tasks: Sequence[str]) -> set[str]:
        return super().masked(tasks) - {"stem.weight"}


class WithoutGradient(Zoo):
    """A backbone that runs without gradients, although its weights ask for them."""

    prunable = ("mix.weight",)
    said = "that no task's gradient reaches (stem)"

    def parts(self) -> None:
        self.mix = conv()

    def forward(self, images: Tensor, tasks: Sequence[str] | None = None) -> dict[str, Tensor]:
        with torch.no_grad():
            features = F.relu(self.stem(images))
        return {t: self.heads[t](F.relu(self.mix(features))) for t in tasks or self.tasks}

    @classmethod
    def masked(cls, tasks: Sequence[str]) -> set[str]:
        return super().masked(tasks) - {"stem.weight"}


class Checkpointed(Zoo):
    prunable = ("block.0.weight",)
    reentrant: ClassVar[bool] = False

    def parts(self) -> None:
        self.block = nn.Sequential(conv(), nn.BatchNorm2d(WIDTH), nn.Dropout(0.1), nn.ReLU())

    def middle(self, features: Tensor) -> Tensor:
        out = checkpoint(self.block, features, use_reentrant=self.reentrant)
        assert isinstance(out, Tensor)
        return out


class CheckpointedReentrant(Checkpointed):
    reentrant = True


class UnusedBranch(Zoo):
    """A layer of an earlier version that nothing calls any more."""

    prunable = ("mix.weight",)
    said = "that no task's gradient reaches (old)"

    def parts(self) -> None:
        self.mix, self.old = conv(), conv()

    def middle(self, features: Tensor) -> Tensor:
        return F.relu(self.mix(features))


class StochasticDepth(Zoo):
    """A residual block that training leaves out by chance."""

    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        if self.training and float(torch.rand(())) < 0.5:
            return features
        return features + F.relu(self.mix(features))


class Spectral(Zoo):
    refused = "stem"

    def finish(self) -> None:
        self.stem = nn.utils.parametrizations.spectral_norm(self.stem)


class SpectralOfOld(Zoo):
    refused = "mix"

    def parts(self) -> None:
        self.mix = nn.utils.spectral_norm(conv())


class AlreadyPruned(Zoo):
    refused = "heads.depth"

    def finish(self) -> None:
        torch.nn.utils.prune.random_unstructured(self.heads["depth"], "weight", 0.5)


class UNet(Zoo):
    prunable = ("down.weight", "up.weight", "join.weight")

    def parts(self) -> None:
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(WIDTH, WIDTH, 2, stride=2)
        self.join = conv(2 * WIDTH)

    def middle(self, features: Tensor) -> Tensor:
        up = self.up(F.relu(self.down(features)))
        return F.relu(self.join(torch.cat([up, features], 1)))


class OtherDimensions(Zoo):
    """Convolutions, transposed ones included, along rows and in volumes."""

    prunable = ("rows.weight", "rows_up.weight", "volume.weight", "volume_up.weight")

    def parts(self) -> None:
        self.rows = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.rows_up = nn.ConvTranspose1d(WIDTH, WIDTH, 3, padding=1)
        self.volume = nn.Conv3d(WIDTH, WIDTH, 1)
        self.volume_up = nn.ConvTranspose3d(WIDTH, WIDTH, (1, 3, 3), padding=(0, 1, 1))

    def middle(self, features: Tensor) -> Tensor:
        rows = F.relu(self.rows_up(F.relu(self.rows(features.mean(2)))))
        volume = self.volume_up(F.relu(self.volume(features[:, :, None])))
        return F.relu(volume[:, :, 0]) + rows[:, :, None]


class Grouped(Zoo):
    prunable = ("grouped.weight", "depthwise.weight", "up.weight", "mix.weight")

    def parts(self) -> None:
        self.grouped, self.depthwise = conv(groups=2), conv(groups=WIDTH)
        self.up = nn.ConvTranspose2d(WIDTH, WIDTH, 3, padding=1, groups=2)
        self.mix = nn.Conv2d(WIDTH, WIDTH, 1)

    def middle(self, features: Tensor) -> Tensor:
        for layer in (self.grouped, self.depthwise, self.up, self.mix):
            features = F.relu(layer(features))
        return features


class DataParallelPart(Zoo):
    prunable = ("body.module.0.weight",)

    def parts(self) -> None:
        self.body = nn.DataParallel(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH)))

    def middle(self, features: Tensor) -> Tensor:
        return F.relu(self.body(features))


class Attention(Zoo):
    prunable = ("attention.out_proj.weight",)
    said = "192 of MultiheadAttention (attention)"

    def parts(self) -> None:
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def middle(self, features: Tensor) -> Tensor:
        tokens = F.avg_pool2d(features, 4).flatten(2).transpose(1, 2)
        mixed = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return features + mixed.mean(1)[:, :, None, None]


class ScriptedPart(Zoo):
    prunable = ("mix.weight",)
    said = "576 of scripted Conv2d (scripted.0)"

    def parts(self) -> None:
        self.scripted = torch.jit.script(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH)))
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        return F.relu(self.mix(self.scripted(features)))


class Dropout(Zoo):
    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix, self.drop = conv(), nn.Dropout2d(0.2)

    def middle(self, features: Tensor) -> Tensor:
        return F.dropout(self.drop(F.relu(self.mix(features))), 0.1, self.training)


class Functional(Zoo):
    """Calls with the weights of layers: standardised, transposed and as they are."""

    prunable = ("mix.weight", "linear.weight")

    def parts(self) -> None:
        self.mix, self.linear = conv(), nn.Linear(WIDTH, WIDTH)

    def middle(self, features: Tensor) -> Tensor:
        weight = self.mix.weight
        centred = weight - weight.mean((1, 2, 3), keepdim=True)
        features = F.relu(F.conv2d(features, centred, self.mix.bias, padding=1))
        features = F.linear(features.movedim(1, -1), self.linear.weight, self.linear.bias)
        return (features @ self.linear.weight.T).movedim(-1, 1)


class ReadsValues(Zoo):
    """Makes tensors itself and decides by their values."""

    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        scale = torch.ones(WIDTH, 1, 1, device="cpu").to(features.device)
        return F.relu(self.mix(features * scale)) * (1 if features.mean().item() >= 0 else 2)


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value / 2

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0] / 2


class OwnFunction(Zoo):
    prunable = ("mix.weight",)

    def parts(self) -> None:
        self.mix = conv()

    def middle(self, features: Tensor) -> Tensor:
        halved = _Halved.apply(self.mix(features))
        assert isinstance(halved, Tensor)
        return F.relu(halved)


ZOO: dict[str, type[Zoo]] = {
    kind.__name__: kind
    for kind in (
        TwoNames, KeepsTensors, SharedNorm, TiedToEmbedding, TiedByAnotherName, TiedHeads, Frozen,
        WithoutGradient, Checkpointed, CheckpointedReentrant, UnusedBranch, StochasticDepth,
        Spectral, SpectralOfOld, AlreadyPruned, UNet, OtherDimensions, Grouped, DataParallelPart,
        Attention, ScriptedPart, Dropout, Functional, ReadsValues, OwnFunction,
    )
}  # fmt: skip
