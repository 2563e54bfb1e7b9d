"""The store gives back what was written, shares it, and notices damage."""

import errno
import os
import pickle
import re
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainables.data.frame import TARGETS, Frame
from trainables.data.store import location
from trainables.data.store.split_file import Split
from trainables.data.store.split_writer import write_split
from trainables.errors import UserError

CHECKS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture
def stored(tmp_path, make_frame, make_meta):
    """(path, frames) of a raw split with all modalities."""
    frames = [make_frame(i) for i in range(4)]
    path = tmp_path / "train.arrow"
    write_split(path, frames, make_meta())
    return path, frames


def assert_same(split: Split, position: int, frame: Frame) -> None:
    """Within the quantisation that the store's types imply, unknown pixels exactly."""
    for modality, expected in frame.arrays():
        got = split.column(modality)[position]
        if modality in ("image", "segmentation"):
            np.testing.assert_array_equal(got, expected)
        elif modality == "normals":
            unknown = np.isnan(expected[..., 0])
            np.testing.assert_array_equal((got == 0).all(axis=2), unknown)
            error = np.abs(got[~unknown] / 127.0 - expected[~unknown])
            assert error.max(initial=0) <= 0.5 / 127 + 1e-6
        elif modality == "depth":
            unknown = np.isnan(expected)
            np.testing.assert_array_equal(got == 0, unknown)
            np.testing.assert_allclose(got[~unknown], expected[~unknown], rtol=2**-11)
        else:
            assert np.abs(got / 255.0 - expected).max() <= 0.5 / 255 + 1e-6


@settings(max_examples=25, **CHECKS)
@given(
    count=st.integers(1, 4),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    targets=st.sets(st.sampled_from(TARGETS)),
    encoded=st.sets(st.sampled_from(("image", *TARGETS))),
)
def test_round_trip_raw_and_png(make_frame, make_meta, count, height, width, targets, encoded):
    chosen = tuple(target for target in TARGETS if target in targets)
    size = (height, width)
    frames = [make_frame(i, size, chosen) for i in range(count)]
    encodings = {m: "png" for m in encoded if m == "image" or m in chosen}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.arrow"
        write_split(path, frames, make_meta(size), encodings=encodings)
        split = Split(path)
        split.verify()
        assert (split.num_frames, split.modalities) == (count, ("image", *chosen))
        assert split.frames == tuple(frame.name for frame in frames)
        assert split.scenes == tuple(frame.scene for frame in frames)
        for position, frame in enumerate(frames):
            assert_same(split, position, frame)


def test_extreme_depths_stay_known(tmp_path, make_frame, make_meta):
    frame = make_frame()
    depth = np.full(frame.size, 65504, np.float32)
    depth[0, 0], depth[0, 1] = 1e-12, np.nan
    write_split(
        tmp_path / "s.arrow",
        [Frame(name="a", scene="a", image=frame.image, depth=depth)],
        make_meta(),
    )
    read = Split(tmp_path / "s.arrow").column("depth")[0]
    assert read[0, 0] > 0
    assert read[0, 1] == 0
    assert read[1, 1] == 65504


def test_jpeg_is_near_and_decoded_once(tmp_path, make_meta):
    rows, columns = np.mgrid[:32, :32]
    image = np.stack([rows * 7, columns * 7, rows + columns], axis=2).astype(np.uint8)
    frames = [Frame(name="a", scene="a", image=image)]
    write_split(tmp_path / "j.arrow", frames, make_meta((32, 32)), encodings={"image": "jpeg"})
    split = Split(tmp_path / "j.arrow")
    assert np.abs(split.column("image")[0].astype(int) - image).mean() < 3
    assert split.column("image") is split.column("image")


def test_image_statistics(stored):
    path, frames = stored
    pixels = np.concatenate([frame.image.reshape(-1, 3) for frame in frames]) / 255
    meta = Split(path).meta
    np.testing.assert_allclose(meta.image_mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(meta.image_std, pixels.std(0), rtol=1e-9)


def test_given_statistics_are_kept(tmp_path, make_frame, make_meta):
    meta = make_meta(image_mean=(0.1, 0.2, 0.3), image_std=(1.0, 2.0, 3.0))
    write_split(tmp_path / "test.arrow", [make_frame()], meta)
    read = Split(tmp_path / "test.arrow").meta
    assert (read.image_mean, read.image_std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


def test_raw_columns_are_contiguous_views_of_the_mapped_file(tmp_path, make_frame, make_meta):
    size = (64, 64)
    frames = [make_frame(i, size) for i in range(6)]
    path = tmp_path / "train.arrow"
    write_split(path, frames, make_meta(size))
    before = pa.total_allocated_bytes()
    readers = [Split(path) for _ in range(8)]
    columns = [[reader.column(m) for m in reader.modalities] for reader in readers]
    # Names are the only thing that is copied.
    assert pa.total_allocated_bytes() - before < 64 * 64
    maps = Path("/proc/self/maps").read_text().splitlines()
    ranges = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in maps
        if line.endswith(str(path))
    ]
    for column in (column for opened in columns for column in opened):
        assert not column.flags.owndata
        assert not column.flags.writeable
        assert column.flags.c_contiguous
        address = column.__array_interface__["data"][0]
        assert any(low <= address and address + column.nbytes <= high for low, high in ranges)


def test_read_copies_only_what_is_asked(stored):
    path, frames = stored
    read = Split(path).read(np.array([2, 0]))
    np.testing.assert_array_equal(read["image"], np.stack([frames[2].image, frames[0].image]))
    assert set(read) == {"image", *TARGETS}


def test_truncation_is_caught_on_opening(stored):
    path, _ = stored
    whole = path.read_bytes()
    for keep in sorted({0, 1, 5, 8, 64, *range(0, len(whole), 97), len(whole) - 1}):
        path.write_bytes(whole[:keep])
        with pytest.raises(UserError, match=re.escape(str(path))) as caught:
            Split(path)
        assert "complete store file" in str(caught.value)
        assert "convert" in str(caught.value)


@settings(max_examples=150, **CHECKS)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(stored, place, bit):
    path, frames = stored
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place % len(whole)] ^= 1 << bit
    other = path.with_name("damaged.arrow")
    other.write_bytes(damaged)
    try:
        split = Split(other)
        split.verify()
    except UserError:
        return
    assert split.frames == tuple(frame.name for frame in frames)
    for position, frame in enumerate(frames):
        assert_same(split, position, frame)


def test_verify_names_the_damaged_column(stored):
    path, _ = stored
    split = Split(path)
    pixels = split.column("image").tobytes()
    at = path.read_bytes().index(pixels)
    del split
    with open(path, "r+b") as handle:
        handle.seek(at + len(pixels) // 2)
        byte = handle.read(1)
        handle.seek(-1, os.SEEK_CUR)
        handle.write(bytes([byte[0] ^ 1]))
    damaged = Split(path)  # the cheap check does not read the pixels
    with pytest.raises(UserError, match="'image' must match its checksum"):
        damaged.verify()


@pytest.mark.parametrize("content", [b"", b"hello", b"ARROW1\0\0" + b"x" * 200])
def test_foreign_file(tmp_path, content):
    path = tmp_path / "train.arrow"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(str(path))):
        Split(path)


def test_another_programs_arrow_file(tmp_path):
    path = tmp_path / "train.arrow"
    table = pa.table({"image": [1, 2]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    with pytest.raises(UserError, match="another program"):
        Split(path)


def test_another_schema_version(tmp_path, make_frame, make_meta):
    path = tmp_path / "train.arrow"
    write_split(path, [make_frame()], make_meta(schema_version=99))
    with pytest.raises(
        UserError, match="schema version is 99, this program reads versions 1 and 2"
    ):
        Split(path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        Split(tmp_path / "train.arrow")


def failing(frames, error):
    yield from frames
    raise error


@pytest.mark.parametrize("before", [None, b"earlier"])
def test_an_interrupted_write_leaves_no_trace(tmp_path, make_frame, make_meta, before):
    path = tmp_path / "train.arrow"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(KeyboardInterrupt):
        write_split(path, failing([make_frame()], KeyboardInterrupt()), make_meta())
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if before is None else [before])


def test_full_disk(tmp_path, make_frame, make_meta, monkeypatch):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"No space left.*free some space"):
        write_split(tmp_path / "train.arrow", [make_frame()], make_meta())
    assert list(tmp_path.iterdir()) == []


def test_unwritable_destination(tmp_path, make_frame, make_meta):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="must be writable"):
        write_split(tmp_path / "file" / "train.arrow", [make_frame()], make_meta())


def test_frames_that_differ_are_refused(tmp_path, make_frame, make_meta):
    for odd in (make_frame(1, (8, 8)), make_frame(1, targets=("depth",))):
        with pytest.raises(UserError, match="'0001' must have"):
            write_split(tmp_path / "s.arrow", [make_frame(0), odd], make_meta())
    with pytest.raises(UserError, match="at least one frame"):
        write_split(tmp_path / "s.arrow", [], make_meta())
    with pytest.raises(UserError, match="unique"):
        write_split(tmp_path / "s.arrow", [make_frame(0), make_frame(0)], make_meta())


@pytest.mark.parametrize(
    ("target", "value"), [("depth", 0.0), ("depth", 1e5), ("edges", 1.5), ("keypoints", np.nan)]
)
def test_values_that_the_type_cannot_hold(tmp_path, make_frame, make_meta, target, value):
    array = np.full((6, 8), value, np.float32)
    frame = Frame(name="f7", scene="s", image=make_frame().image, **{target: array})
    with pytest.raises(UserError, match=f"'f7' of s: {target} must be in"):
        write_split(tmp_path / "s.arrow", [frame], make_meta())


def test_bad_encodings_are_refused(tmp_path, make_frame, make_meta):
    with pytest.raises(UserError, match="raw or png"):
        write_split(tmp_path / "s.arrow", [make_frame()], make_meta(), encodings={"depth": "jpeg"})
    with pytest.raises(UserError, match="unknown modality"):
        write_split(tmp_path / "s.arrow", [make_frame()], make_meta(), encodings={"sound": "png"})


def test_pickles_as_its_location(stored):
    path, frames = stored
    payload = pickle.dumps(Split(path))
    assert len(payload) < 500
    assert_same(pickle.loads(payload), 0, frames[0])


def test_file_uri(stored):
    path, frames = stored
    assert_same(Split(f"file://{path}"), 1, frames[1])


def test_unreadable_uri():
    with pytest.raises(UserError, match=r"pyarrow\.fs"):
        Split("nosuchscheme://bucket/train.arrow")


def test_a_remote_file_is_fetched_once(stored, tmp_path, monkeypatch):
    path, frames = stored
    monkeypatch.setenv("DISPARSE_CACHE", str(tmp_path / "cache"))
    remote = pa.fs.SubTreeFileSystem(str(path.parent), pa.fs.LocalFileSystem())
    first = location.fetch(remote, path.name, "s3://bucket/train.arrow")
    assert first.is_relative_to(tmp_path / "cache")
    assert_same(Split(first), 0, frames[0])
    stamp = first.stat().st_mtime_ns
    assert location.fetch(remote, path.name, "s3://bucket/train.arrow") == first
    assert first.stat().st_mtime_ns == stamp
    assert len(list((tmp_path / "cache").rglob("*.*"))) == 1
    with pytest.raises(UserError, match="no such file"):
        location.fetch(remote, "absent.arrow", "s3://bucket/absent.arrow")
