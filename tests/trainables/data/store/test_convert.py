"""Conversion writes a whole store or nothing."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from trainables.config import DataConfig
from trainables.data.catalogue import open_dataset
from trainables.data.sources.nyu_v2 import open_source
from trainables.data.store.building import open_source as open_raw
from trainables.data.store.convert import convert
from trainables.data.store.split_file import Split
from trainables.errors import UserError

SIZE = (24, 32)


@pytest.fixture
def raw(tmp_path, write_plain_nyu):
    return write_plain_nyu(tmp_path / "raw", train=[1, 2, 4, 5, 8], test=[3, 6])


def change(monkeypatch, **members) -> None:
    """Let the source have other members, as one of a user's own may."""

    def opened(*arguments, **options):
        source = open_raw(*arguments, **options)
        kept = {"num_frames": source.num_frames, "load": source.load, **members}
        return SimpleNamespace(**kept)

    monkeypatch.setattr("trainables.data.store.convert.open_source", opened)


def leftovers(folder) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


def test_the_store_holds_the_sources_frames_in_order(raw, tmp_path):
    seen = []
    summary = convert(
        "nyu-v2", raw, tmp_path / "a" / "store", SIZE, lambda *step: seen.append(step)
    )
    assert summary.num_frames == {"train": 5, "test": 2}
    assert summary.size == SIZE
    assert seen == [("train", i, 5) for i in range(1, 6)] + [("test", i, 2) for i in (1, 2)]
    store = tmp_path / "a" / "store"
    assert summary.num_bytes == sum(path.stat().st_size for path in store.iterdir())
    split, source = Split(store / "train.arrow"), open_source(raw)
    assert split.frames == ("0001", "0002", "0004", "0005", "0008")
    assert split.scenes == ("run-0001", "run-0001", "run-0004", "run-0004", "run-0008")
    for position in range(5):
        frame = source.load("train", position, SIZE)
        np.testing.assert_array_equal(split.column("image")[position], frame.image)
        np.testing.assert_array_equal(split.column("segmentation")[position], frame.segmentation)
    assert Split(store / "test.arrow").meta.image_mean == split.meta.image_mean


def test_the_store_opens_as_a_dataset(raw, tmp_path):
    convert("nyu-v2", raw, tmp_path / "store", SIZE)
    config = DataConfig(
        dataset="nyu-v2",
        tasks=("segmentation", "normals", "depth"),
        size=SIZE,
        crop=SIZE,
        scale_range=(1.0, 1.0),
        mirror=False,
        validation_fraction=0.4,
        split_seed=0,
        root=str(tmp_path / "store"),
    )
    dataset = open_dataset(config)
    assert dataset.num_classes == 40
    assert dataset.train.num_frames + dataset.val.num_frames == 5
    assert set(dataset.train.scenes).isdisjoint(dataset.val.scenes)


def test_the_native_size_is_the_default(raw, tmp_path):
    summary = convert("nyu-v2", raw, tmp_path / "store")
    assert summary.size == (480, 640)


@pytest.mark.parametrize("size", [None, "24x32", 24, (24,), (24, 32, 3), (24.5, 32)])
def test_a_native_size_that_is_none(raw, tmp_path, monkeypatch, size):
    change(monkeypatch, native_size=size)
    with pytest.raises(UserError, match=r"`native_size` of source .* must be \(height, width\)"):
        convert("nyu-v2", raw, tmp_path / "store")


def test_whole_numbers_may_be_numpys(raw, tmp_path, monkeypatch):
    counts = {"train": np.int64(5), "test": np.uint8(2)}
    change(monkeypatch, native_size=list(np.array(SIZE)), num_frames=counts.__getitem__)
    summary = convert("nyu-v2", raw, tmp_path / "store")
    assert (summary.size, summary.num_frames) == (SIZE, {"train": 5, "test": 2})


def test_an_earlier_store_is_replaced(raw, tmp_path):
    convert("nyu-v2", raw, tmp_path / "store", SIZE)
    convert("nyu-v2", raw, tmp_path / "store", (16, 16))
    assert Split(tmp_path / "store" / "train.arrow").meta.size == (16, 16)
    assert leftovers(tmp_path) == []


class Killed(BaseException):
    """Stands in for whatever ends a conversion."""


@pytest.mark.parametrize("after", [("train", 1), ("train", 5), ("test", 1)])
@pytest.mark.parametrize("earlier", [False, True])
def test_an_interrupted_conversion_changes_nothing(raw, tmp_path, after, earlier):
    store = tmp_path / "store"
    if earlier:
        convert("nyu-v2", raw, store, (16, 16))

    def kill(split: str, done: int, total: int) -> None:
        if (split, done) == after:
            raise Killed

    with pytest.raises(Killed):
        convert("nyu-v2", raw, store, SIZE, kill)
    assert leftovers(tmp_path) == []
    if earlier:
        assert Split(store / "test.arrow").meta.size == (16, 16)
    else:
        assert not store.exists()


def test_a_bad_file_in_the_middle_leaves_nothing(raw, tmp_path):
    (raw / "seg" / "0005.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match=re.escape(str(raw / "seg" / "0005.png"))):
        convert("nyu-v2", raw, tmp_path / "store", SIZE)
    assert not (tmp_path / "store").exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scenes", "raw", "store"), "generated on first use; .*one of nyu-v2"),
        (("nyu", "raw", "store"), "unknown data set 'nyu'"),
        (("nyu-v2", "absent", "store"), "source must exist"),
        (("nyu-v2", "empty", "store"), "empty folder"),
        (("nyu-v2", "other", "store"), "supported layout"),
        (("nyu-v2", "raw", "raw"), "new, empty or an earlier store"),
        (("nyu-v2", "raw", "other"), r"with note\.txt"),
        (("nyu-v2", "raw", "other/note.txt"), "must be a folder, got the file"),
        (("nyu-v2", "raw", "other/note.txt/deeper"), "must be writable"),
        (("nyu-v2", "raw", "/proc/c"), "must be writable, got .* for /proc/c; choose another"),
        (("nyu-v2", "raw", "s3://bucket/store"), "local folder"),
        (("nyu-v2", "raw", "store", (8, 8)), "at least 16x16, got 8x8"),
    ],
)
def test_mistakes(raw, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("mine")
    with pytest.raises(UserError, match=message):
        convert(*arguments)
    assert (tmp_path / "other" / "note.txt").read_text() == "mine"
    assert not (tmp_path / "store").exists()


@pytest.mark.realdata
def test_adashare_frames_convert(real_data, tmp_path):
    folder = real_data / "nyuv2_adashare"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    summary = convert("nyu-v2", folder, tmp_path / "store", (120, 160))
    assert summary.num_frames == {"train": 2, "test": 2}
    split = Split(tmp_path / "store" / "train.arrow")
    labels = split.column("segmentation")
    assert set(np.unique(labels)) <= {*range(40), 255}
    assert (labels[:, :2] == 255).all()  # the white frame


def test_a_stored_file_that_may_not_be_read_is_not_called_damaged(raw, tmp_path, monkeypatch):
    convert("nyu-v2", raw, tmp_path / "store", SIZE)

    def denied(path):
        raise PermissionError(13, f"Failed to open local file '{path}'")

    monkeypatch.setattr("trainables.data.store.split_file._open", denied)
    with pytest.raises(
        UserError, match=r"test\.arrow must be readable, got 'Permission denied'; ch"
    ):
        Split(tmp_path / "store" / "test.arrow")
