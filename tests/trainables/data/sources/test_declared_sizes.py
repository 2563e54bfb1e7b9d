"""Files that say they are larger than they are, or unpack to more than anyone has memory for.

Each is refused before memory is taken: reading it may add a few hundred megabytes at most.
"""

import io
import resource
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.trainables.data.sources.official_files import write_labeled_mat, write_png
from trainables.data.limits import LARGEST_FRAME
from trainables.data.sources.mat_files import read_matrices
from trainables.data.sources.nyu_v2 import open_source
from trainables.data.sources.reading import read_array, read_arrays, read_image, read_json
from trainables.errors import UserError

SIZE = (16, 20)
MAT = "nyu_depth_v2_labeled.mat"


@pytest.fixture(autouse=True)
def little_memory():
    """What a test asks for beyond this raises `MemoryError`, which no reader may let through."""
    with open("/proc/self/statm") as handle:
        now = int(handle.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def header(shape, dtype="<f4") -> bytes:
    buffer = io.BytesIO()
    described = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((400_000, 400_000)) + bytes(64), r"at most \d+ pixels, got the shape \(400000"),
        (header((2000, 2000)) + bytes(64), r"got 64 bytes of the 16000000 that \(2000, 2000\)"),
        (header((-4, -4)) + bytes(64), "shape"),
        (header((1 << 62, 1 << 62), "|u1"), "pixels"),
        (header((4, 4), "|O") + bytes(128), "array of numbers, got object"),
        (header((4, 4), "<c8") + bytes(128), "array of numbers, got complex64"),
        (header((4, 4), "<U4") + bytes(256), "array of numbers, got <U4"),
        (header((4, 4)).replace(b"(4, 4)", b"(4, x)"), "readable depth map"),
        (b"\x80\x04K\x01.", "readable depth map"),  # a pickle
    ],
)
def test_arrays_that_lie(tmp_path, content, said):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_array(path, "depth map")
    assert str(path) in str(caught.value)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", content)
    with pytest.raises(UserError, match=said.replace("depth map", "archive")):
        read_arrays(tmp_path / "a.npz", "depth")


def test_an_archive_that_unpacks_to_far_more(tmp_path):
    shape = (1 << 14, 1 << 14)
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("depth.npy", "w", force_zip64=True) as member,
    ):
        member.write(header(shape, "|u1"))
        for _ in range(16):
            member.write(bytes(1 << 24))
    assert path.stat().st_size < 1 << 22
    with pytest.raises(UserError, match="pixels"):
        read_arrays(path, "depth")
    np.savez(path, other=np.zeros(3))
    with pytest.raises(UserError, match=r"archive of the arrays depth, got .*depth\.npy"):
        read_arrays(path, "depth")


@settings(max_examples=50, deadline=None)
@given(
    array=arrays.arrays(
        st.sampled_from([np.float64, np.float32, np.uint8, np.int64, np.float16, ">f4"]),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements=st.integers(0, 100),
    ),
    by_column=st.booleans(),
)
def test_arrays_are_read_as_numpy_writes_them(tmp_path_factory, array, by_column):
    folder = tmp_path_factory.mktemp("arrays")
    written = np.asfortranarray(array) if by_column else array
    np.save(folder / "a.npy", written)
    np.savez_compressed(folder / "a.npz", depth=written)
    for read in (
        read_array(folder / "a.npy", "array"),
        read_arrays(folder / "a.npz", "depth")["depth"],
    ):
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype
        assert read.shape == written.shape


def png_header(height: int, width: int) -> bytes:
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    chunks = ((b"IHDR", data), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d))
        for kind, d in chunks
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as the reader does
@pytest.mark.parametrize("size", [(6000, 6000), (10_000, 10_000), (60_000, 60_000), (1, 1 << 26)])
def test_pictures_larger_than_any_frame(tmp_path, size):
    path = tmp_path / "a.png"
    path.write_bytes(png_header(*size))
    with pytest.raises(UserError, match=rf"a\.png must have at most {LARGEST_FRAME} pixels"):
        read_image(path, ("RGB",))


def test_pictures_that_run_programs_are_no_pictures(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(UserError, match="readable image"):
        read_image(tmp_path / "a.png", ("RGB",))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "", "nothing"])
def test_json_that_is_none(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(UserError, match=r"splits\.json must map train and test"):
        open_source(tmp_path)


def compressed_matrix(num_bytes: int) -> bytes:
    """A MATLAB file of version 5 whose one variable unpacks to so many zeros."""
    stream = zlib.compressobj(1)
    packed = stream.compress(struct.pack("<II", 14, num_bytes))
    for _ in range(num_bytes >> 24):
        packed += stream.compress(bytes(1 << 24))
    packed += stream.flush()
    start = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    return start + struct.pack("<II", 15, len(packed)) + packed


def test_a_matlab_file_that_unpacks_to_far_more(tmp_path):
    path = tmp_path / "splits.mat"
    path.write_bytes(compressed_matrix(1 << 28))
    assert path.stat().st_size < 1 << 22
    with pytest.raises(UserError, match=r"splits\.mat must be a readable MATLAB file.*unpacks to"):
        read_matrices(path)


@pytest.fixture
def official(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "official"
    images = rng.integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    depths = rng.uniform(1, 9, (4, *SIZE)).astype(np.float32)
    labels = rng.integers(0, 895, (4, *SIZE)).astype(np.uint16)
    write_labeled_mat(folder / MAT, images, depths, labels, ["wall"])
    scipy.io.savemat(folder / "splits.mat", {"trainNdxs": [1, 2], "testNdxs": [4]})
    mapping = rng.integers(1, 41, (1, 894)).astype(float)
    scipy.io.savemat(folder / "classMapping40.mat", {"mapClass": mapping})
    return folder


def replaced(folder, write) -> None:
    with h5py.File(folder / MAT, "r+") as file:
        del file["depths"]
        write(file)


def declared(shape, **options):
    return lambda file: file.create_dataset("depths", shape, np.float32, **options)


def all_declared(file) -> None:
    for name in ("images", "labels"):
        del file[name]
    side = 100_000
    file.create_dataset("depths", (4, side, side), np.float32, chunks=(1, 64, 64))
    file.create_dataset("images", (4, 3, side, side), np.uint8, chunks=(1, 3, 64, 64))
    file.create_dataset("labels", (4, side, side), np.uint16, chunks=(1, 64, 64))


WIDE = (4, SIZE[1], SIZE[0])


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (all_declared, r"images must be as large as it says, got frames of 100000x100000"),
        (declared(WIDE, chunks=(1, *WIDE[1:])), r"depths .*got 0 of 4 blocks in the file"),
        (declared(WIDE), r"depths must be as large as it says, got 0 bytes stored"),
        (
            lambda file: file.create_dataset(
                "depths", WIDE, np.float32, chunks=(1 << 20, *WIDE[1:]), maxshape=(None, *WIDE[1:])
            ),
            r"depths .*blocks of \d+ bytes",
        ),
    ],
)
def test_hdf5_arrays_that_lie(official, write, said):
    open_source(official).load("train", 0, SIZE)
    replaced(official, write)
    with pytest.raises(UserError, match=said):
        open_source(official)


def external_link(file) -> None:
    file["depths"] = h5py.ExternalLink("other.h5", "depths")


def soft_link(file) -> None:
    file["elsewhere"] = h5py.ExternalLink("other.h5", "/")
    file["depths"] = h5py.SoftLink("/elsewhere/depths")


def virtual(file) -> None:
    layout = h5py.VirtualLayout(WIDE, np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "depths", WIDE)
    file.create_virtual_dataset("depths", layout)


def external_storage(file) -> None:
    raw = f"{file.filename.rpartition('/')[0]}/depths.raw"
    np.ones(WIDE, np.float32).tofile(raw)
    file.create_dataset("depths", WIDE, np.float32, external=[(raw, 0, 4 * int(np.prod(WIDE)))])


@pytest.mark.parametrize("write", [external_link, soft_link, virtual, external_storage])
def test_hdf5_arrays_of_other_files_need_a_yes(official, write):
    with h5py.File(official / "other.h5", "w") as other:
        other["depths"] = np.ones(WIDE, np.float32)
    replaced(official, write)
    with pytest.raises(UserError, match=r"must hold depths itself, got .*--allow-outside"):
        open_source(official)
    frame = open_source(official, allow_outside=True).load("train", 0, SIZE)
    assert (frame.depth == 1).all()


def test_labels_of_40_classes_in_the_official_file(official):
    with h5py.File(official / MAT, "r+") as file:
        file["labels"][:] = file["labels"][:] % 41
    with pytest.raises(UserError, match=r"raw ones, 1-894, got none above 40 .*mapped to 40"):
        open_source(official)


def test_frames_of_the_official_file_in_no_split_are_said(official):
    (note,) = open_source(official).notes
    assert "1 frames" in note


def test_links_beside_the_official_file(official, tmp_path):
    (official / "splits.mat").rename(tmp_path / "splits.mat")
    (official / "splits.mat").symlink_to(tmp_path / "splits.mat")
    with pytest.raises(UserError, match=r"in the data root .*splits\.mat"):
        open_source(official)
    assert open_source(official, allow_outside=True).num_frames("test") == 1


def test_a_picture_at_the_limit_is_read(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((1 << 11, 1 << 12), np.uint8))
    assert read_image(tmp_path / "a.png", ("L",)).shape == (1 << 11, 1 << 12)
