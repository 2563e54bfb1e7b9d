"""What a store must hold before anything trains on it, whoever wrote it."""

import json

import numpy as np
import pyarrow as pa
import pytest

from tests.trainables.data.conftest import make_frame, make_meta, write_toy_store
from trainables.config import DataConfig
from trainables.data.catalogue import open_dataset
from trainables.data.store.meta import SplitMeta, digest
from trainables.data.store.split_file import Split
from trainables.data.store.split_writer import write_split
from trainables.errors import UserError

SIZE = (16, 24)


def config(folder, *tasks, **fields) -> DataConfig:
    values = {
        "dataset": "nyu-v2", "tasks": tasks, "size": SIZE, "crop": (16, 16), "root": str(folder),
        "scale_range": (1.0, 1.0), "mirror": False, "validation_fraction": 0.25, "split_seed": 0,
    }  # fmt: skip
    return DataConfig(**(values | fields))


def claimed(folder, split, **fields) -> None:
    """Write a split's metadata anew, with other claims about the same content."""
    path = folder / f"{split}.arrow"
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
    envelope = json.loads(batch.schema.metadata[b"disparse"])
    text = json.dumps(json.loads(envelope["fields"]) | fields, sort_keys=True)
    metadata = json.dumps({"fields": text, "checksum": digest([text.encode()])})
    batch = batch.replace_schema_metadata({b"disparse": metadata.encode()})
    with pa.OSFile(str(folder / "new"), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as out:
        out.write_batch(batch)
    (folder / "new").replace(path)


def test_a_store_of_elsewhere_with_labels_that_are_no_classes(tmp_path):
    """As a program before these checks wrote it; found when it is opened, not when it is tested."""
    write_toy_store(tmp_path, size=SIZE, dataset="nyu-v2")
    assert open_dataset(config(tmp_path, "segmentation", "depth")).num_classes == 4
    for split in ("train", "test"):
        claimed(tmp_path, split, num_classes=3)
    with pytest.raises(UserError, match=r"segmentation of frame '00.*' must be a class 0-2.*got 3"):
        open_dataset(config(tmp_path, "segmentation", "depth"))
    open_dataset(config(tmp_path, "depth"))  # which reads no label


def test_a_store_with_directions_that_wrapped_around(tmp_path, monkeypatch):
    for split, offset in (("train", 0), ("test", 50)):
        frames = [make_frame(offset + i, SIZE) for i in range(4)]
        with monkeypatch.context() as patch:
            patch.setattr(
                "trainables.data.store.encoding._stored_vectors",
                lambda column, array, frame: np.nan_to_num(array * 200).astype(int).astype(np.int8),
            )
            write_split(tmp_path / f"{split}.arrow", frames, make_meta(SIZE, dataset="nyu-v2"))
    with pytest.raises(UserError, match=r"normals of frame '0000' must be unit vectors, got len"):
        open_dataset(config(tmp_path, "normals"))
    open_dataset(config(tmp_path, "depth"))


def test_a_part_without_a_known_value_is_told_before_training(tmp_path):
    """Depth is known in the first scenes of train alone; validation gets none of them."""
    frames = [make_frame(i, SIZE) for i in range(8)]
    for frame in frames[2:]:
        frame.depth[:] = np.nan
    meta = make_meta(SIZE, dataset="nyu-v2")
    write_split(tmp_path / "train.arrow", frames, meta)
    write_split(tmp_path / "test.arrow", [make_frame(100 + i, SIZE) for i in range(3)], meta)
    told = set()
    for seed in range(8):
        try:
            open_dataset(config(tmp_path, "depth", split_seed=seed))
        except UserError as error:
            told.add(str(error).partition(" must have a known value of depth")[0])
    assert told == {"train", "validation"}
    open_dataset(config(tmp_path, "segmentation"))


@pytest.mark.parametrize(
    "fields",
    [
        {"size": [1 << 20, 1 << 20]},
        {"size": [0, 24]},
        {"size": ["16", "24"]},
        {"size": None},
        {"encodings": {"image": "raw"}},
        {"encodings": {}},
        {"own_kinds": 3},
        {"own_kinds": {"image": "labels"}},
        {"num_classes": None},
        {"num_classes": 4000},
        {"dataset": "toy", "schema_version": 3},
        {"more": 1},
    ],
)
def test_a_store_whose_metadata_lie(tmp_path, fields):
    write_toy_store(tmp_path, size=SIZE)
    claimed(tmp_path, "train", **fields)
    with pytest.raises(UserError, match="must be a complete store file, got"):
        Split(tmp_path / "train.arrow")


def test_encoded_pictures_that_unpack_to_more_than_there_is_memory(tmp_path, monkeypatch):
    meta = make_meta(SIZE)
    write_split(tmp_path / "a.arrow", [make_frame(0, SIZE)], meta, encodings={"image": "png"})
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 64, "SC_PHYS_PAGES": 4}[name])
    with pytest.raises(UserError, match=r"image must fit into this machine's .* memory"):
        Split(tmp_path / "a.arrow").column("image")


def test_a_size_that_no_frame_has():
    with pytest.raises(UserError, match=r"1 to \d+ pixels, got 90000x90000; choose a smaller"):
        SplitMeta(dataset="toy", size=(90_000, 90_000), depth_kind="metric", num_classes=4)
