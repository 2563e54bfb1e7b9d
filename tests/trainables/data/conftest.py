"""Small frames and stores for the data tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.frame import TARGETS, Frame
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_writer import write_split

FrameMaker = Callable[..., Frame]


def make_frame(
    index: int = 0,
    size: tuple[int, int] = (6, 8),
    targets: tuple[str, ...] = TARGETS,
    scene: str | None = None,
) -> Frame:
    """Random content that depends on `index` alone; some normals and depths are unknown."""
    rng = np.random.default_rng(index)
    normals = rng.normal(size=(*size, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    depth = rng.uniform(0.3, 9.9, size).astype(np.float32)
    normals[0, 0], depth[1, 1] = np.nan, np.nan
    arrays = {
        "segmentation": rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), size),
        "normals": normals,
        "depth": depth,
        "keypoints": rng.uniform(0, 1, size).astype(np.float32),
        "edges": rng.uniform(0, 1, size).astype(np.float32),
    }
    return Frame(
        name=f"{index:04d}",
        scene=f"scene-{index // 2}" if scene is None else scene,
        image=rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        **{target: arrays[target] for target in targets},
    )


def make_meta(size: tuple[int, int] = (6, 8), **fields: object) -> SplitMeta:
    values = {"dataset": "toy", "size": size, "depth_kind": "metric", "num_classes": 4}
    return SplitMeta(**(values | fields))  # type: ignore[arg-type]


def write_toy_store(folder: Path, num_train: int = 8, num_test: int = 3, **fields: object) -> Path:
    meta = make_meta(**fields)  # type: ignore[arg-type]
    for split, indices in (("train", range(num_train)), ("test", range(100, 100 + num_test))):
        write_split(folder / f"{split}.arrow", [make_frame(i, meta.size) for i in indices], meta)
    return folder


def write_plain_nyu(folder: Path, train: list[int], test: list[int], size=(48, 64)) -> Path:
    """A folder in the plain layout: a slanted plane, random colours and labels."""
    import json

    for name in ("rgb", "seg", "depth"):
        (folder / name).mkdir(parents=True)
    (folder / "splits.json").write_text(json.dumps({"train": train, "test": test}))
    for number in (*train, *test):
        rng = np.random.default_rng(number)
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        picture.save(folder / "rgb" / f"{number:04d}.jpg")
        labels = rng.choice(np.array([*range(40), 255], np.uint8), size)
        Image.fromarray(labels).save(folder / "seg" / f"{number:04d}.png")
        slant = np.linspace(50, 100, size[1])[None].repeat(size[0], 0).astype(np.uint8)
        Image.fromarray(slant).save(folder / "depth" / f"{number:04d}.png")
    return folder


@pytest.fixture(name="make_frame")
def _make_frame() -> FrameMaker:
    return make_frame


@pytest.fixture(name="make_meta")
def _make_meta() -> Callable[..., SplitMeta]:
    return make_meta


@pytest.fixture(name="write_toy_store")
def _write_toy_store() -> Callable[..., Path]:
    return write_toy_store


@pytest.fixture(name="write_plain_nyu")
def _write_plain_nyu() -> Callable[..., Path]:
    return write_plain_nyu
