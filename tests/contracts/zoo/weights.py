"""Networks whose weights are shared, tied, frozen, unused or computed from others."""

from collections.abc import Sequence

import torch
import torch.nn.utils.prune
from torch import Tensor, nn
from torch.nn import functional as F

from tests.contracts.zoo.network import WIDTH, Zoo, conv


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


class UnusedBranch(Zoo):
    """A layer of an earlier version that nothing calls any more."""

    prunable = ("mix.weight",)
    said = "that no task's gradient reaches (old)"

    def parts(self) -> None:
        self.mix, self.old = conv(), conv()

    def middle(self, features: Tensor) -> Tensor:
        return F.relu(self.mix(features))


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
