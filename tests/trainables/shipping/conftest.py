"""Masked models that need no training, small enough to export in a second or two."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spaces.presets import trial_config
from tests.trainables.shipping.models import untrained
from trainables.config import TrialConfig
from trainables.shipping.formats.onnx_export import Metadata, export_program, onnx_bytes
from trainables.training.export import TrainedModel
from trainables.training.trial import TrialRun

MICRO: dict[str, Any] = {
    "data.size": (32, 32),
    "data.crop": (32, 32),
    "data.num_train": 12,
    "data.num_test": 6,
    "data.validation_fraction": 0.25,
    "model.width": 4,
    "model.head_width": 4,
    "model.blocks": (1, 1),
    "model.strides": (1, 2),
    "model.dilations": (1, 2),
    "model.head_dilations": (1, 2),
    "training.num_reports": 1,
    "training.batch_size": 4,
    "training.steps": 4,
}

Config = Callable[..., TrialConfig]


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes") / "store"


@pytest.fixture(scope="session")
def config(scenes_root: Path) -> Config:
    def make(method: str = "random", **overrides: Any) -> TrialConfig:
        return trial_config(
            method,
            "scenes",
            "tiny",
            root=str(scenes_root),
            tasks=("segmentation", "depth"),
            sparsity=None if method == "dense" else 0.9,
            overrides=MICRO | {name.replace("__", "."): v for name, v in overrides.items()},
        )

    return make


@pytest.fixture(scope="session")
def model_file(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.pt of a trained network, alone in its folder."""
    run = TrialRun(config(), device="cpu")
    while run.next_report() is not None:
        pass
    path = tmp_path_factory.mktemp("trained") / "model.pt"
    run.export(path)
    return path


@pytest.fixture(scope="session")
def masked(config: Config) -> TrainedModel:
    return untrained(config())


@pytest.fixture(scope="session")
def onnx_file(masked: TrainedModel) -> bytes:
    """The ONNX file of `masked`, exported once."""
    tasks = tuple(masked.num_channels)
    program = export_program(masked.model, tasks, (32, 32))
    metadata = Metadata(tasks=tasks, image_mean=masked.image_mean, image_std=masked.image_std)
    return onnx_bytes(program, metadata)
