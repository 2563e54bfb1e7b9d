"""Writers of tiny files in the encodings the data sets' own documents give, byte for byte.

They share no code with the readers: PNG is put together from its chunks, so that a bit depth is
what the file says and not what a library made of it; MATLAB's axes are reversed by hand.
"""

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np


def png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 or uint16 (H, W) or uint8 (H, W, 3): colour type 0 or 2, no filter."""
    height, width = pixels.shape[:2]
    bits = 8 * pixels.dtype.itemsize
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)  # network order
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(pixels))


def write_npy(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


# ------------------------------------------------------------------------------- Cityscapes

CAMERA = {
    "extrinsic": {
        "baseline": 0.209313,
        "pitch": 0.038,
        "roll": 0.0,
        "x": 1.7,
        "y": 0.1,
        "yaw": 0.0,
    },
    "intrinsic": {"fx": 2262.52, "fy": 2265.3017905988554, "u0": 1096.98, "v0": 513.137},
}
# Train ids 0-18 as label ids, in order, as the benchmark's own table of labels gives them.
EVALUATED = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def random_city(seed: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Raw values of a frame: image, label ids 0-33 and 16-bit disparity, some of it unknown."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(2, 32258, size).astype(np.uint16)
    steps.flat[:3] = (0, 1, 2)
    labels = rng.integers(0, 34, size).astype(np.uint8)
    labels.flat[: len(EVALUATED)] = EVALUATED
    return {
        "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "labels": labels,
        "steps": steps,
    }


def write_official_city(
    root: Path,
    split: str,
    name: str,
    values: Mapping[str, np.ndarray],
    folders: tuple[str, ...] = ("gtFine", "disparity", "camera"),
) -> None:
    """name: CITY_SEQUENCE_FRAME."""
    city = name.split("_")[0]
    write_png(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", values["image"])
    if "gtFine" in folders:
        labels = root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"
        write_png(labels, values["labels"])
    if "disparity" in folders:
        write_png(root / "disparity" / split / city / f"{name}_disparity.png", values["steps"])
    if "camera" in folders:
        camera = root / "camera" / split / city / f"{name}_camera.json"
        camera.parent.mkdir(parents=True, exist_ok=True)
        camera.write_text(json.dumps(values.get("camera", CAMERA)))


def write_array_city(folder: Path, name: str, values: Mapping[str, np.ndarray]) -> list[str]:
    """image/, depth/, label_2/, label_7/ and label_19/; returns AdaShare's five paths."""
    train_ids = np.full(values["labels"].shape, -1, np.int64)
    for train_id, label_id in enumerate(EVALUATED):
        train_ids[values["labels"] == label_id] = train_id
    files = {
        "image": values["image"] / 255.0,
        "depth": (values["steps"] / 65535.0).astype(np.float32)[..., None],
        "label_2": np.minimum(train_ids, 1),
        "label_7": np.minimum(train_ids, 6),
        "label_19": train_ids,
    }
    for kind, array in files.items():
        write_npy(folder / kind / f"{name}.npy", array)
    return [f"{folder.name}/{kind}/{name}.npy" for kind in files]


# -------------------------------------------------------------------------------- Taskonomy

TASKONOMY_DOMAINS = {
    "rgb": "rgb",
    "segment_semantic": "segmentsemantic",
    "normal": "normal",
    "depth_zbuffer": "depth_zbuffer",
    "keypoints2d": "keypoints2d",
    "edge_texture": "edge_texture",
}
TASKONOMY_ORDERS = {
    "building first": "{building}/{domain}",
    "domain first": "{domain}/{building}",
    "omnidata": "{domain}/taskonomy/{building}",
}


def random_room(seed: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Raw values by domain; the first pixels are those that mean "unknown"."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(*size, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    values = {
        "rgb": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "segment_semantic": rng.integers(0, 18, size).astype(np.uint8),
        "normal": np.rint((directions + 1) * 127.5).astype(np.uint8),
        "depth_zbuffer": rng.integers(200, 6000, size).astype(np.uint16),
        "keypoints2d": rng.integers(0, 500, size).astype(np.uint16),
        "edge_texture": rng.integers(0, 9000, size).astype(np.uint16),
    }
    values["segment_semantic"].flat[0] = 0
    values["normal"][0, 1] = 127
    values["depth_zbuffer"].flat[2:5] = (65535, 64500, 0)
    values["keypoints2d"].flat[5] = 65535
    values["edge_texture"].flat[6] = 65535
    return values


def write_room(
    root: Path,
    building: str,
    point: int,
    values: Mapping[str, np.ndarray],
    order: str = "building first",
    domains: tuple[str, ...] = tuple(TASKONOMY_DOMAINS),
) -> None:
    for domain in domains:
        folder = root / TASKONOMY_ORDERS[order].format(building=building, domain=domain)
        name = f"point_{point}_view_2_domain_{TASKONOMY_DOMAINS[domain]}.png"
        write_png(folder / name, values[domain])


# ---------------------------------------------------------------------------------- NYU-v2


def write_labeled_mat(
    path: Path, images: np.ndarray, depths: np.ndarray, labels: np.ndarray, names: list[str]
) -> None:
    """MATLAB 7.3: HDF5 behind a user block of 512 bytes, axes reversed, classes as attributes.

    images uint8 (N, H, W, 3), depths float32 (N, H, W), labels uint16 (N, H, W).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        # MATLAB's sizes are H x W x 3 x N and H x W x N; the first axis runs fastest.
        arrays = {
            "images": (images.transpose(0, 3, 2, 1), "uint8"),
            "depths": (depths.transpose(0, 2, 1), "single"),
            "labels": (labels.transpose(0, 2, 1), "uint16"),
        }
        for name, (array, kind) in arrays.items():
            dataset = file.create_dataset(name, data=array, compression="gzip")
            dataset.attrs["MATLAB_class"] = np.bytes_(kind)
        cells = file.create_dataset("names", (1, len(names)), dtype=h5py.ref_dtype)
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
        for position, text in enumerate(names):
            codes = np.array([[ord(letter)] for letter in text], np.uint16)
            stored = file.create_dataset(f"#refs#/{position}", data=codes)
            stored.attrs["MATLAB_class"] = np.bytes_("char")
            cells[0, position] = stored.ref
    with open(path, "r+b") as handle:
        text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2012 HDF5"
        handle.write(text.ljust(124) + b"\x00\x02IM")
