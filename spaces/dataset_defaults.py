"""Defines the defaults of every data set: its loss weights, sizes by preset, and protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from trainables.errors import UserError
from trainables.registry.lookup import DATASET, tasks_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasedProtocol:
    """Holds how long and at what rates preset `paper` trains, in steps.

    The numbers are those of `config_nyuv2.py` and `config_cityscapes.py` of the released DiSparse
    code, which agree, unless a data set says otherwise. Shorter and longer runs scale them.

    steps: of a dense run, and of methods that train from scratch.
    decay_every_steps, decay_factor: of the learning rate ("halving").
    update_every_steps: between two drops and growths (delta_T), 300 of them up to 75 %.
    retraining_steps, retraining_rate: of a trained dense model after pruning, at a constant rate.
    """

    steps: int = 20_000
    decay_every_steps: int = 4_000
    decay_factor: float = 0.5
    update_every_steps: int = 50
    retraining_steps: int = 1_000
    retraining_rate: float = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetDefaults:
    """Holds the defaults of a data set that do not depend on the size of the network.

    released: of preset `paper`; scenes and a user's own data have that of NYU-v2.
    """

    tasks: tuple[str, ...]  # trained when none are named
    loss_weights: Mapping[str, float]
    size: Mapping[str, tuple[int, int]]  # by preset
    crop: Mapping[str, tuple[int, int]]
    learning_rate: Mapping[str, float]
    num_train: Mapping[str, int | None]
    num_test: Mapping[str, int | None]
    released: ReleasedProtocol = field(default_factory=ReleasedProtocol)


DATASET_DEFAULTS: dict[str, DatasetDefaults] = {
    "scenes": DatasetDefaults(
        tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
        # Depth is in metres here, so its L1 needs no factor 20 (the papers' depth is normalised).
        loss_weights={
            "segmentation": 1.0,
            "normals": 5.0,
            "depth": 1.0,
            "keypoints": 5.0,
            "edges": 5.0,
        },
        size={"tiny": (64, 64), "small": (120, 160), "paper": (240, 320)},
        crop={"tiny": (64, 64), "small": (112, 144), "paper": (225, 225)},
        learning_rate={"tiny": 3e-3, "small": 2e-3, "paper": 1e-3},
        num_train={"tiny": 960, "small": 1600, "paper": 4000},
        num_test={"tiny": 240, "small": 400, "paper": 800},
    ),
    "nyu-v2": DatasetDefaults(
        tasks=("segmentation", "normals"),
        loss_weights={"segmentation": 1.0, "normals": 20.0, "depth": 2.0},
        size={"tiny": (60, 80), "small": (120, 160), "paper": (480, 640)},
        crop={"tiny": (56, 72), "small": (112, 144), "paper": (321, 321)},
        learning_rate={"tiny": 3e-3, "small": 2e-3, "paper": 1e-3},
        num_train={"tiny": None, "small": None, "paper": None},
        num_test={"tiny": None, "small": None, "paper": None},
    ),
    "cityscapes": DatasetDefaults(
        tasks=("segmentation", "depth"),
        loss_weights={"segmentation": 1.0, "depth": 20.0},  # of disparity as published
        size={"tiny": (64, 128), "small": (128, 256), "paper": (256, 512)},
        crop={"tiny": (56, 112), "small": (112, 224), "paper": (224, 224)},
        learning_rate={"tiny": 3e-3, "small": 2e-3, "paper": 1e-4},
        num_train={"tiny": None, "small": None, "paper": None},
        num_test={"tiny": None, "small": None, "paper": None},
    ),
    "cityscapes-metric": DatasetDefaults(
        tasks=("segmentation", "depth"),
        # Values in metres are hundreds of times those of disparity; this keeps the balance.
        loss_weights={"segmentation": 1.0, "depth": 0.05},
        size={"tiny": (64, 128), "small": (128, 256), "paper": (256, 512)},
        crop={"tiny": (56, 112), "small": (112, 224), "paper": (224, 224)},
        learning_rate={"tiny": 3e-3, "small": 2e-3, "paper": 1e-4},
        num_train={"tiny": None, "small": None, "paper": None},
        num_test={"tiny": None, "small": None, "paper": None},
    ),
    "taskonomy": DatasetDefaults(
        tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
        # AdaShare's 1, 3, 2, 7, 7 in our units (docs/decisions/0007). Its responses span 2, ours
        # 1. Its depth is log(1 + value) / log(65536): at 3.6 m, one metre is 0.025 of that.
        loss_weights={
            "segmentation": 1.0,
            "normals": 3.0,
            "depth": 0.05,
            "keypoints": 14.0,
            "edges": 14.0,
        },
        size={"tiny": (64, 64), "small": (128, 128), "paper": (256, 256)},
        crop={"tiny": (56, 56), "small": (112, 112), "paper": (224, 224)},
        learning_rate={"tiny": 3e-3, "small": 2e-3, "paper": 1e-4},
        num_train={"tiny": None, "small": None, "paper": None},
        num_test={"tiny": None, "small": None, "paper": None},
        released=ReleasedProtocol(  # `config_taskonomy.py`
            steps=100_000,
            decay_every_steps=12_000,
            decay_factor=0.3,
            update_every_steps=250,
            retraining_steps=4_000,
            retraining_rate=1e-6,
        ),
    ),
}


def defaults_for(dataset: str) -> DatasetDefaults:
    """Return the defaults of a data set, built in or a user's own.

    A user's own data set has the sizes of NYU-v2 and a weight of 1 for every task unless its
    description says otherwise. Its tasks are those it has targets for.
    Raises `UserError` for a data set that does not exist.
    """
    described = DATASET.find(dataset)
    if dataset in DATASET_DEFAULTS:
        return DATASET_DEFAULTS[dataset]
    tasks = tuple(tasks_of(described))
    unknown = [task for task in described.loss_weights if task not in tasks]
    if unknown:
        raise UserError(
            f"`loss_weights` of {dataset} must weigh its tasks, got {unknown[0]!r}, which is not "
            f"one of {', '.join(tasks)}; name the task in `tasks`"
        )
    base = DATASET_DEFAULTS["nyu-v2"]
    own = replace(
        base, tasks=tasks, loss_weights={**dict.fromkeys(tasks, 1.0), **described.loss_weights}
    )
    if described.size is not None:
        own = replace(
            own,
            size=dict.fromkeys(base.size, described.size),
            crop={preset: _within(crop, described.size) for preset, crop in base.crop.items()},
        )
    if described.crop is not None:
        own = replace(own, crop=dict.fromkeys(base.crop, described.crop))
    return own


def _within(crop: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    return min(crop[0], size[0]), min(crop[1], size[1])
