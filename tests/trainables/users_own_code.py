"""Holds models, tasks, rules and sources as a user might write them; most of them fail."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from trainables.data.frame import Frame
from trainables.registry.datasets import DatasetDescription
from trainables.registry.methods import MethodDescription
from trainables.registry.tasks import Metric, TaskDescription
from trainables.sparsity.method import Method
from trainables.tasks.measuring.streaming import PixelMean
from trainables.tasks.measuring.upsampling import upsample_bilinear
from trainables.tasks.regression import l1_loss


class Good(nn.Module):
    def __init__(self, config, num_channels):
        super().__init__()
        self.tasks = tuple(num_channels)
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.middle = self.make_middle()
        self.heads = nn.ModuleDict({t: nn.Conv2d(8, n, 1) for t, n in num_channels.items()})

    def make_middle(self):
        return nn.Identity()

    def forward(self, images, tasks=None):
        features = self.middle(F.relu(self.stem(images)))
        return {t: self.heads[t](features) for t in tasks or self.tasks}

    def owners(self):
        return {
            n: n.split(".")[1] if n.startswith("heads.") else "shared"
            for n, _ in self.named_parameters()
        }


class Lambda(Good):
    def make_middle(self):
        self.act = lambda x: x * 2
        return nn.Identity()

    def forward(self, images, tasks=None):
        return {t: self.act(p) for t, p in super().forward(images, tasks).items()}


class Talks(Good):
    def forward(self, images, tasks=None):
        print("features of", tuple(images.shape))
        return super().forward(images, tasks)


class Volume(nn.Module):
    """Works on a fifth dimension."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Conv3d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.mix(x.unsqueeze(1)).squeeze(1)


class FiveDimensions(Good):
    def make_middle(self):
        return Volume()


class Level(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.down = nn.Conv2d(8, 8, 3, 2, 1)
        self.inner = inner
        self.up = nn.Conv2d(16, 8, 3, padding=1)

    def forward(self, x):
        y = F.interpolate(self.inner(self.down(x)), scale_factor=2)
        return self.up(torch.cat([x, y], 1))  # the mismatch


class ThreeLevels(Good):
    def make_middle(self):
        return Level(Level(Level(nn.Identity())))


class WeightNorm(Good):
    def make_middle(self):
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)))


class PrunedLinear(Good):
    def make_middle(self):
        layer = nn.Conv2d(8, 8, 1)
        from torch.nn.utils import prune

        return prune.l1_unstructured(layer, "weight", 0.5)


class ReturnsList(Good):
    def forward(self, images, tasks=None):
        return list(super().forward(images, tasks).values())


class ListInTraining(Good):
    def forward(self, images, tasks=None):
        found = super().forward(images, tasks)
        return list(found.values()) if self.training else found


class Flat(Good):
    def forward(self, images, tasks=None):
        return {t: p.mean((2, 3)) for t, p in super().forward(images, tasks).items()}


class NeedsArgument(Good):
    def forward(self, images, depth, tasks=None):
        return super().forward(images, tasks)


class FactoryNeedsArgument(Good):
    def __init__(self, config, num_channels, width):
        super().__init__(config, num_channels)


class InPlace(nn.Module):
    def forward(self, x):
        y = torch.sigmoid(x)  # saved for the gradient
        z = y * 2
        y.add_(1)
        return z + y


class ChangesInPlace(Good):
    def make_middle(self):
        return nn.Sequential(nn.Identity(), InPlace())


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return x + self.norm(self.pool(x))


class BatchOfOne(Good):
    def make_middle(self):
        return Pooled()


class Ends(BaseException):
    pass


class RaisesOther(Good):
    def forward(self, images, tasks=None):
        raise Ends("of mine")


class LeavesTraining(Good):
    def forward(self, images, tasks=None):
        if self.training:
            raise GeneratorExit("left")
        return super().forward(images, tasks)


class HookRaises(Good):
    def start_step(self, phase, step):
        if step == 1:
            raise IndexError("my schedule ends")


class Rule(Method):
    def prune(self, context, density):
        return context.registry.parameters["no.such.weight"]


class NoProposal(Method):
    def prune(self, context, density):
        return None


RULE = MethodDescription(name="rule", summary="", implementation=f"{__name__}:Rule")
NO_PROPOSAL = MethodDescription(name="np", summary="", implementation=f"{__name__}:NoProposal")


class Height:
    def __init__(self, num_channels):
        pass

    def loss(self, prediction, target):
        return l1_loss(prediction, target)

    def accumulator(self, definition, device):
        return Error(device)


class Error:
    broken = False

    def __init__(self, device):
        self.error = PixelMean(device)

    def update(self, prediction, target):
        prediction = upsample_bilinear(prediction, target.shape[-2:])
        self.error.update((prediction - target).abs().squeeze(1), ~target.isnan().squeeze(1))

    def compute(self):
        if Error.broken:
            raise ZeroDivisionError("no pixels")
        return {"height/error": self.error.compute()}


class LossRaises(Height):
    def loss(self, prediction, target):
        raise KeyError("weights")


class LossOfPixels(Height):
    def loss(self, prediction, target):
        return (prediction.mean((1, 2, 3)) - 1).abs()


class LossIsNan(Height):
    def loss(self, prediction, target):
        return prediction.mean() * float("nan")


class MetricIsMissing(Height):
    def accumulator(self, definition, device):
        class Other(Error):
            def compute(self):
                return {"height/rmse": 1.0}

        return Other(device)


def task(kind):
    return TaskDescription(
        name="height",
        summary="",
        implementation=f"{__name__}:{kind}",
        channels=1,
        kind="depth",
        target="depth",
        primary="height/error",
        metrics=(Metric(name="height/error", unit="m", direction="minimize", description="x"),),
    )


HEIGHT = task("Height")
LOSS_RAISES = task("LossRaises")
LOSS_OF_PIXELS = task("LossOfPixels")
LOSS_IS_NAN = task("LossIsNan")
METRIC_IS_MISSING = task("MetricIsMissing")


class Frames:
    native_size = (32, 32)

    def __init__(self, root):
        self.index = {"train": [str(i) for i in range(6)], "test": ["0", "1"]}

    def num_frames(self, split):
        return len(self.index[split])

    def load(self, split, position, size):
        random = np.random.default_rng(position)
        return Frame(
            name=str(position),
            scene=str(position),
            image=random.integers(0, 255, (*size, 3), dtype=np.uint8),
            depth=random.uniform(1, 5, size).astype(np.float32),
        )


class KeyMissing(Frames):
    def load(self, split, position, size):
        return {"train": super().load(split, position, size)}[split if position < 4 else "val"]


class FileDenied(Frames):
    def load(self, split, position, size):
        if split == "test":
            raise PermissionError(13, "Permission denied", "/elsewhere/test/1.npy")
        return super().load(split, position, size)


class DiskFull(Frames):
    def load(self, split, position, size):
        raise OSError(28, "No space left on device", "/elsewhere/scratch")


class ReturnsDict(Frames):
    def load(self, split, position, size):
        return {"image": 1}


class IndexLost(Frames):
    def __init__(self, root):
        self.index = (root / "index.json").read_text()


class IndexDenied(Frames):
    def __init__(self, root):
        raise PermissionError(13, "Permission denied", str(root / "index.json"))


class Leaves(Frames):
    def load(self, split, position, size):
        raise GeneratorExit("left")


class NoCount(Frames):
    def num_frames(self, split):
        return len({"train": [1]}[split])


def data(kind):
    return DatasetDescription(
        summary="", tasks=("depth",), num_classes=0, depth_kind="metric", open_source=kind
    )


KEY_MISSING, FILE_DENIED, DISK_FULL = data(KeyMissing), data(FileDenied), data(DiskFull)
RETURNS_DICT, INDEX_LOST, NO_COUNT = data(ReturnsDict), data(IndexLost), data(NoCount)
INDEX_DENIED, LEAVES = data(IndexDenied), data(Leaves)
