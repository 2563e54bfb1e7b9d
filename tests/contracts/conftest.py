"""A trial of a tenth of a second: eight frames of 16×16, two stages of one block, a few steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spaces.presets import trial_config
from trainables.config import TrialConfig

MICRO = {
    "data.size": (16, 16),
    "data.crop": (16, 16),
    "data.num_train": 8,
    "data.num_test": 4,
    "data.validation_fraction": 0.25,
    "model.width": 4,
    "model.head_width": 4,
    "model.blocks": (1, 1),
    "model.strides": (1, 2),
    "model.dilations": (1, 1),
    "model.head_dilations": (1,),
    "training.num_reports": 1,
    "training.batch_size": 2,
    "sparsity.saliency_batches": 1,
    "sparsity.round_to": 1,
    "sparsity.interval_steps": 1,
    "sparsity.level_fraction": 0.6,
    "sparsity.rewind_fraction": 0.2,
    "regrowth.interval_steps": 2,
    "regrowth.end_fraction": 1.0,
    "optimiser.learning_rate": 1e-3,
}
TASKS = ("segmentation", "depth", "normals", "keypoints", "edges")

MicroTrial = Callable[..., TrialConfig]


@pytest.fixture(scope="session")
def micro_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("micro") / "store"


@pytest.fixture(scope="session")
def micro_trial(micro_root: Path) -> MicroTrial:
    """`micro_trial(method, num_tasks=3, **{"sparsity.target": 0.9})`: a config by name."""

    def make(method: str, *, num_tasks: int = 2, steps: int = 4, **arguments: Any) -> TrialConfig:
        overrides = {**MICRO, **arguments.pop("overrides", {})}
        return trial_config(
            method,
            "scenes",
            "tiny",
            root=f"{micro_root}-{overrides['data.size']}",  # a store has frames of one size
            tasks=TASKS[:num_tasks],
            steps=steps,
            overrides=overrides,
            **arguments,
        )

    return make
