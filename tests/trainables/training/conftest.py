"""A trial small enough to run whole: 24 frames of 32×32, two stages, two tasks, few steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spaces.budgets import REWINDING_METHODS
from spaces.presets import trial_config
from trainables.config import TrialConfig

SMALL = {
    "data.size": (32, 32),
    "data.crop": (32, 32),
    "data.num_train": 24,
    "data.num_test": 8,
    "data.validation_fraction": 0.25,
    "model.width": 4,
    "model.blocks": (1, 1),
    "model.strides": (1, 2),
    "model.dilations": (1, 2),
    "model.head_width": 4,
    "model.head_dilations": (1, 2),
    "training.steps": 12,
    "training.num_reports": 3,
    "training.pretrain_steps": 4,
    "training.batch_size": 4,
    "sparsity.saliency_batches": 2,
    "sparsity.interval_steps": 2,
    "sparsity.round_to": 1,
    "regrowth.interval_steps": 2,
}

TrialFactory = Callable[..., TrialConfig]


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scenes") / "store"


@pytest.fixture(scope="session")
def small_trial(scenes_root: Path) -> TrialFactory:
    """`small_trial(method, **{"sparsity.target": 0.9})`: the config of a trial of seconds."""

    def make(method: str, overrides: dict[str, Any] | None = None, **arguments: Any) -> TrialConfig:
        arguments.setdefault("tasks", ["segmentation", "depth"])
        settings: dict[str, Any] = dict(SMALL)
        if method in REWINDING_METHODS:  # their levels decide how long the dense run is
            del settings["training.pretrain_steps"]
        if method == "small-dense":  # no narrower network is a tenth of this one
            settings |= {"model.width": 12, "model.head_width": 12}
        return trial_config(
            method,
            "scenes",
            "tiny",
            root=str(scenes_root),
            overrides={**settings, **(overrides or {})},
            **arguments,
        )

    return make
