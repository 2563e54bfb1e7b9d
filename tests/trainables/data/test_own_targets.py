"""Targets of a user's own tasks: stored, resized, augmented and batched by their kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from trainables.config import DataConfig
from trainables.data.batch import IGNORE_LABEL, Batch
from trainables.data.catalogue import DatasetSpec, open_dataset
from trainables.data.frame import Frame
from trainables.data.loading.augmentation import AugmentationParameters, augment
from trainables.data.loading.loader import BatchSource
from trainables.data.resizing import resize_array, resize_frame
from trainables.data.store import Split
from trainables.data.store.convert import convert
from trainables.data.store.meta import digest
from trainables.data.store.split_writer import write_split
from trainables.errors import UserError
from trainables.registry import tasks
from trainables.registry.tasks import Metric, TaskDescription
from trainables.report import METRICS, PRIMARY_METRICS, objective_names, task_metrics

SIZE = (16, 24)
OWN_KINDS = {
    "own-labels": "labels",
    "own-values": "values",
    "own-depth": "depth",
    "own-vectors": "vectors",
    "own-response": "response",
}
# The column of a built-in task that has the same kind.
TWINS = {
    "own-labels": "segmentation",
    "own-depth": "depth",
    "own-vectors": "normals",
    "own-response": "edges",
}


def described(name: str, kind: str, target: str = "") -> TaskDescription:
    metric = Metric(name=f"{name}/error", unit="m", direction="minimize", description="")
    return TaskDescription(
        name=name,
        summary="a task of a user's own",
        implementation="trainables.tasks.edges:Edges",
        metrics=(metric,),
        primary=metric.name,
        channels=1,
        kind=kind,
        target=target,
    )


@pytest.fixture(autouse=True)
def none_of_them_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_own", {})


HEIGHT = described("test-height", "values", "own-height")
LOG_HEIGHT = described("test-log-height", "values", "own-height")
NEARNESS = described("test-nearness", "depth", "depth")


class Source:
    """Four frames of train and two of test, with a height for every pixel."""

    native_size = SIZE

    def __init__(self, root: Path) -> None:
        del root

    def num_frames(self, split: str) -> int:
        return {"train": 4, "test": 2}[split]

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        draws = np.random.default_rng([position, len(split)])
        height = draws.normal(0, 50, SIZE).astype(np.float32)
        height[0, 0] = np.nan
        frame = Frame(
            name=str(position),
            scene=str(position // 2),
            image=draws.integers(0, 255, (*SIZE, 3), np.uint8),
            depth=draws.uniform(1, 4, SIZE).astype(np.float32),
            extra={"own-height": height},
        )
        return resize_frame(frame, size, {"own-height": "values"})


SPEC = DatasetSpec(
    summary="frames with heights",
    tasks=("depth", f"{__name__}:HEIGHT"),
    num_classes=0,
    depth_kind="metric",
    open_source=Source,
)


def config(root: Path, tasks: tuple[str, ...], own: tuple[str, ...]) -> DataConfig:
    return DataConfig(
        dataset=f"{__name__}:SPEC",
        root=str(root),
        tasks=tasks,
        own_tasks=tuple(f"{__name__}:{name}" for name in own),
        size=SIZE,
        crop=(16, 16),
        scale_range=(0.8, 1.2),
        mirror=True,
        validation_fraction=0.5,
        split_seed=0,
    )


def own_frame(make_frame, index: int = 0) -> Frame:
    """A frame whose own targets hold what the built-in ones of their kind do."""
    frame = make_frame(index, SIZE)
    values = np.linspace(-1e6, 1e6, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)
    values[2, 3] = np.nan
    extra = {name: getattr(frame, twin) for name, twin in TWINS.items()}
    arrays = dict(frame.arrays())
    return Frame(name=frame.name, scene="s", **arrays, extra={**extra, "own-values": values})


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_the_store_keeps_own_columns_like_those_of_their_kind(
    tmp_path, make_frame, make_meta, encoding
):
    frames = [own_frame(make_frame, i) for i in range(3)]
    encodings = dict.fromkeys(OWN_KINDS, encoding)
    meta = make_meta(SIZE, own_kinds=OWN_KINDS)
    write_split(tmp_path / "train.arrow", frames, meta, encodings=encodings)
    split = Split(tmp_path / "train.arrow")
    split.verify()
    assert split.meta.own_kinds == OWN_KINDS
    assert set(split.modalities[-len(OWN_KINDS) :]) == set(OWN_KINDS)
    for own, twin in TWINS.items():
        np.testing.assert_array_equal(split.column(own), split.column(twin))
    exact = np.stack([frame.extra["own-values"] for frame in frames])
    np.testing.assert_array_equal(split.column("own-values"), exact)


def test_a_store_of_version_1_stays_readable(tmp_path, make_frame, make_meta):
    path = tmp_path / "train.arrow"
    write_split(path, [make_frame(0, SIZE)], make_meta(SIZE))
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        batch, metadata = reader.get_batch(0), reader.schema.metadata[b"disparse"]
    fields = json.loads(json.loads(metadata)["fields"])
    del fields["own_kinds"]  # as version 1 was written
    text = json.dumps(fields | {"schema_version": 1}, sort_keys=True)
    envelope = json.dumps({"fields": text, "checksum": digest([text.encode()])}).encode()
    batch = batch.replace_schema_metadata({b"disparse": envelope})
    old = tmp_path / "old.arrow"
    with pa.OSFile(str(old), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as out:
        out.write_batch(batch)
    split = Split(old)
    split.verify()
    assert (split.meta.schema_version, split.meta.own_kinds) == (1, {})
    np.testing.assert_array_equal(split.column("depth"), Split(path).column("depth"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"depth": np.ones(SIZE, np.float32)}, "got 'depth'; give it as depth=…"),
        ({"image": np.ones(SIZE, np.float32)}, "got 'image'"),
        (np.ones(SIZE, np.float32), "`extra` must be a dict of arrays by name, got ndarray"),
        ({"height": np.ones((4, 4), np.float32)}, "image 16x24 and height 4x4"),
        ({"height": np.ones(SIZE, np.float64)}, "height must be float32, got float64"),
        ({"height": np.ones((*SIZE, 2), np.float32)}, r"height must have shape .*width, 3\)"),
    ],
)
def test_extra_targets_that_do_not_fit_are_refused(make_frame, extra, message):
    with pytest.raises(UserError, match=message):
        Frame(name="a", scene="s", image=make_frame(0, SIZE).image, extra=extra)


@pytest.mark.parametrize(
    ("kinds", "values", "message"),
    [
        ({}, 1.0, "must have targets that a task of the data set reads, got 'height'"),
        ({"height": "labels"}, 1.0, "height must be uint8, got float32"),
        ({"height": "vectors"}, 1.0, r"height must have shape \(height, width, 3\)"),
        ({"height": "depth"}, -1.0, r"height must be in \(0, 65504\] or NaN"),
        ({"height": "response"}, 1.5, r"height must be in \[0, 1\] everywhere"),
        ({"height": "values"}, np.inf, "height must be finite, or NaN where unknown"),
    ],
)
def test_extra_targets_must_be_of_the_declared_kind(
    tmp_path, make_frame, make_meta, kinds, values, message
):
    image = make_frame(0, SIZE).image
    frame = Frame(
        name="a", scene="s", image=image, extra={"height": np.full(SIZE, values, np.float32)}
    )
    with pytest.raises(UserError, match=message):
        write_split(tmp_path / "train.arrow", [frame], make_meta(SIZE, own_kinds=kinds))


def test_resizing_follows_the_kind(make_frame):
    frame = own_frame(make_frame)
    small = resize_frame(frame, (8, 12), OWN_KINDS)
    for own, twin in TWINS.items():
        np.testing.assert_array_equal(small.extra[own], getattr(small, twin))
    values = frame.extra["own-values"]
    np.testing.assert_array_equal(small.extra["own-values"], resize_array(values, (8, 12), "depth"))
    assert set(small.extra["own-values"][~np.isnan(small.extra["own-values"])]) <= set(values.flat)


@pytest.mark.parametrize("depth_kind", ["metric", "disparity"])
def test_augmentation_follows_the_kind(depth_kind):
    draws = torch.Generator().manual_seed(3)
    maps = {
        "segmentation": torch.randint(0, 5, (4, *SIZE), generator=draws),
        "normals": torch.nn.functional.normalize(torch.randn(4, 3, *SIZE, generator=draws), dim=1),
        "depth": torch.rand(4, 1, *SIZE, generator=draws) + 1,
        "edges": torch.rand(4, 1, *SIZE, generator=draws),
    }
    own = {name: maps[twin] for name, twin in TWINS.items()} | {"own-values": maps["depth"]}
    parameters = AugmentationParameters.draw(
        draws, 4, size=SIZE, crop=(20, 20), scale_range=(0.5, 1.5), mirror=True
    )
    seen = augment(
        Batch(images_BCHW=torch.rand(4, 3, *SIZE, generator=draws), targets={**maps, **own}),
        parameters,
        crop=(20, 20),
        depth_kind=depth_kind,
        own_kinds=OWN_KINDS,
    ).targets
    for name, twin in TWINS.items():
        assert torch.equal(seen[name].nan_to_num(-9), seen[twin].nan_to_num(-9)), name
    # A value belongs to its pixel: moved as depth is, and never rescaled.
    scale = parameters.scale.float().view(-1, 1, 1, 1)
    unscaled = seen["depth"] / scale if depth_kind == "disparity" else seen["depth"] * scale
    torch.testing.assert_close(seen["own-values"], unscaled, equal_nan=True)
    outside = seen["own-labels"] == IGNORE_LABEL
    assert outside.any()
    assert torch.equal(seen["own-values"].isnan()[:, 0], outside)


def test_own_tasks_are_known_once_a_configuration_names_them(tmp_path):
    assert "test-log-height/error" not in METRICS
    config(tmp_path, ("test-log-height",), ("LOG_HEIGHT",))
    config(tmp_path, ("test-log-height",), ("LOG_HEIGHT",))  # the same again
    assert PRIMARY_METRICS["test-log-height"] == "test-log-height/error"
    assert task_metrics("test-log-height") == ("test-log-height/error",)
    assert objective_names(["test-log-height"]) == ("val/test-log-height/error", "cost/density")


def test_own_tasks_are_known_to_a_process_that_is_handed_the_configuration(repository, tmp_path):
    (tmp_path / "their_tasks.py").write_text(
        "from trainables.registry.tasks import Metric, TaskDescription\n"
        "SLOPE = TaskDescription(name='slope', summary='', implementation='a:B', channels=1,\n"
        "    kind='values', primary='slope/error', metrics=(Metric(name='slope/error', unit='',\n"
        "    direction='minimize', description=''),))\n"
    )

    def python(code: str) -> bytes:
        path = f"{repository}:{tmp_path}"
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            check=True,
            capture_output=True,
        ).stdout

    python(
        "import pickle\nfrom spaces.presets import trial_config\n"
        "config = trial_config('snip', 'scenes', 'tiny', tasks='depth,their_tasks:SLOPE')\n"
        "open('config', 'wb').write(pickle.dumps(config))"
    )
    said = python(
        "import pickle\nconfig = pickle.load(open('config', 'rb'))\n"
        "from trainables.report import describe\nprint(describe('val/slope/error').direction)"
    )
    assert said == b"minimize\n"


def test_own_tasks_from_raw_data_to_batches(tmp_path):
    """Two tasks share the column of heights; a third reads that of a built-in task."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x").touch()
    store = tmp_path / "store"
    convert(f"{__name__}:SPEC", tmp_path / "raw", store)
    tasks = ("test-height", "depth", "test-log-height", "test-nearness")
    data = config(store, tasks, ("HEIGHT", "LOG_HEIGHT", "NEARNESS"))
    dataset = open_dataset(data)
    assert set(tasks) <= set(dataset.available_tasks)
    assert dataset.num_channels("test-height") == 1
    source = BatchSource(dataset.train, data, tasks=tasks, batch_size=2, seed=0, device="cpu")
    batch = next(source.evaluation_batches(dataset.test, 2))
    assert tuple(batch.targets) == tasks
    stored = torch.from_numpy(dataset.test.split.column("own-height").copy())[:, None]
    for task in ("test-height", "test-log-height"):
        assert torch.equal(batch.targets[task].nan_to_num(-9), stored.nan_to_num(-9))
    assert torch.equal(batch.targets["test-nearness"], batch.targets["depth"])
    trained = source.train_batch(0).targets
    assert trained["test-height"].shape == (2, 1, 16, 16)
    known = trained["test-height"][~trained["test-height"].isnan()]
    assert torch.isin(
        known, torch.from_numpy(dataset.train.split.column("own-height").copy())
    ).all()


def test_a_task_whose_target_is_not_there_is_refused(tmp_path):
    data = config(tmp_path, ("edges",), ())
    with pytest.raises(UserError, match=r"unknown task of .*SPEC 'edges'; valid: depth"):
        open_dataset(data)
