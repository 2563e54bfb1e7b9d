"""Frames of noise for the store: real types and sizes, no dataset."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spaces.presets import trial_config
from trainables.config import TrialConfig
from trainables.data.frame import Frame
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_writer import write_split

NUM_CLASSES = 40
DATASET = "nyu-v2"  # segmentation and normals: the published full-size model


def noise_trial(folder: Path, preset: str, method: str, num_frames: int) -> TrialConfig:
    """The preset's trial on a store of noise in `folder`, which is written unless it is there.

    Training and test split have `num_frames` each.
    """
    config = trial_config(method, DATASET, preset, root=str(folder))
    for split in ("train", "test"):
        path = folder / f"{split}.arrow"
        if not path.exists():
            meta = SplitMeta(
                dataset=DATASET,
                size=config.data.size,
                depth_kind="metric",
                num_classes=NUM_CLASSES,
            )
            write_split(path, random_frames(num_frames, config.data.size), meta)
    return config


def random_frames(num_frames: int, size: tuple[int, int]) -> Iterator[Frame]:
    """Frames with all five targets at (height, width), one scene each."""
    random = np.random.default_rng(0)
    for index in range(num_frames):
        normals = random.standard_normal((*size, 3), dtype=np.float32)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        yield Frame(
            name=f"{index:05d}",
            scene=f"{index:05d}",
            image=random.integers(0, 256, (*size, 3), dtype=np.uint8),
            segmentation=random.integers(0, NUM_CLASSES, size, dtype=np.uint8),
            normals=normals,
            depth=0.5 + 4 * random.random(size, dtype=np.float32),
            keypoints=random.random(size, dtype=np.float32),
            edges=random.random(size, dtype=np.float32),
        )
