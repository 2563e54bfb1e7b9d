"""A user's own data set, model, task, sparsity method and recipe, as files in a folder."""

from pathlib import Path

DATA = '''
"""Thirty-two frames of noise with a square on them; its height is a task of their own."""

import numpy as np

from trainables.data.catalogue import DatasetSpec
from trainables.data.frame import Frame


class Squares:
    native_size = (32, 32)

    def __init__(self, root):
        self.counts = {"train": 24, "test": 8}

    def num_frames(self, split):
        return self.counts[split]

    def load(self, split, position, size):
        rng = np.random.default_rng([position, split == "test"])
        image = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        height = np.zeros(size, np.float32)
        row, column = rng.integers(0, size[0] - 8, 2)
        image[row : row + 8, column : column + 8] //= 4
        height[row : row + 8, column : column + 8] = 1.0 + position % 3
        return Frame(
            name=f"{position:03d}",
            scene=f"scene-{position // 4}",
            image=image,
            segmentation=(height > 0).astype(np.uint8),
            extra={"height": height},
        )


SQUARES = DatasetSpec(
    summary="squares on noise",
    tasks=("segmentation", "own_task:HEIGHT"),
    num_classes=2,
    depth_kind="metric",
    open_source=Squares,
    loss_weights={"segmentation": 1.0, "height": 0.5},
    size=(32, 32),
    crop=(32, 32),
)
'''

TASK = '''
"""How high the square is above the ground."""

from trainables.registry.tasks import Metric, TaskDescription
from trainables.tasks.regression import ResponseTask

HEIGHT = TaskDescription(
    name="height",
    summary="height above the ground",
    implementation="own_task:Height",
    metrics=(
        Metric(
            name="height/error",
            unit="m",
            direction="minimize",
            description="mean |prediction - truth|",
        ),
    ),
    primary="height/error",
    channels=1,
    kind="values",
)


class Height(ResponseTask):
    name = "height"
'''

MODEL = '''
"""Two layers, and a product with a matrix that no mask covers."""

import torch
from torch import nn


class TwoLayers(nn.Module):
    def __init__(self, config, num_channels):
        super().__init__()
        self.tasks = tuple(num_channels)
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU())
        self.mixing = nn.Parameter(torch.eye(16))
        self.heads = nn.ModuleDict(
            {task: nn.Conv2d(16, num, 3, padding=1) for task, num in num_channels.items()}
        )

    def forward(self, images, tasks=None):
        features = torch.einsum("bchw,dc->bdhw", self.trunk(images), self.mixing)
        return {task: self.heads[task](features) for task in tasks or self.tasks}

    def owners(self):
        return {
            name: name.split(".")[1] if name.startswith("heads.") else "shared"
            for name, _ in self.named_parameters()
        }
'''

METHOD = '''
"""Keeps the smallest weights: a rule that should lose."""

from trainables.registry.methods import MethodDescription
from trainables.sparsity.method import Method, Proposal
from trainables.sparsity.saliency import magnitude

BACKWARDS = MethodDescription(
    name="backwards",
    summary="the largest weights go",
    implementation="own_method:Backwards",
    label="Backwards",
)


class Backwards(Method):
    def prune(self, context, density):
        scores = {name: -score for name, score in magnitude(context.registry).items()}
        return Proposal(masks=context.structure.prune(scores, density, context.generator))
'''

RECIPE = """
summary = "squares, two layers, and a rule that should lose"
dataset = "own_data:SQUARES"
preset = "tiny"
tasks = ["segmentation", "own_task:HEIGHT"]
methods = ["own_method:BACKWARDS", "snip"]
flagship = "snip"
trials = 4
concurrency = 2

[settings]
"model.name" = "own_model:TwoLayers"
"sparsity.saliency_batches" = 1

[settings.training]
steps = 6
num_reports = 2
batch_size = 4
evaluation_batch_size = 4
"""


def write_own_code(folder: Path) -> Path:
    """Write all files, and return the recipe's."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"own_data": DATA, "own_task": TASK, "own_model": MODEL, "own_method": METHOD}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text.lstrip())
    recipe = folder / "squares.toml"
    recipe.write_text(RECIPE.lstrip())
    return recipe
