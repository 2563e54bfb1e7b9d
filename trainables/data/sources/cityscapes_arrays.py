"""Reads Cityscapes as AdaShare and DiSparse do, from `.npy` files; see also `cityscapes`."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.batch import IGNORE_LABEL
from trainables.data.frame import Frame
from trainables.data.sources.listing import Listing, list_files, located, unread
from trainables.data.sources.reading import (
    read_array,
    read_json,
    require_files,
    require_image_size,
)
from trainables.errors import UserError
from trainables.registry.datasets import DATASETS

INDEX = "cityscape.json"
_LABEL_FOLDERS = ("label_19", "label")
_SPLIT_FOLDERS = {"train": ("train",), "test": ("val", "test")}
_NUM_CLASSES = DATASETS["cityscapes"].num_classes
_RANGE = 65535
# The released files are numbered in their own order and do not name the city. Validation can only
# be kept apart by blocks of neighbouring numbers.
_BLOCK = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayFiles:
    """Holds the files of one frame; None for those left out."""

    name: str
    scene: str
    image: Path
    segmentation: Path | None
    depth: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files of the frame."""
        paths = (self.image, self.segmentation, self.depth)
        return tuple(path for path in paths if path is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayListing:
    """Holds frames by split, the size of the first one, and notes on what was left out."""

    files: dict[str, tuple[ArrayFiles, ...]]
    native_size: tuple[int, int]
    notes: tuple[str, ...]


def list_arrays(root: Path, *, allow_outside: bool = False) -> ArrayListing | None:
    """List the frames of a folder; None if it does not have this layout.

    allow_outside: whether files that lie outside the folder may be read. Raises `UserError` for a
    malformed index, a split without frames, a missing file, one outside the folder, and a frame
    that is listed twice.
    """
    index = root / INDEX if (root / INDEX).is_file() else root
    listing = Listing(root, index, allow_outside=allow_outside)
    if index != root:
        listing.require_inside((index,))
        files = _list_index(root)
        notes: tuple[str, ...] = ()
    elif (root / "train" / "image").is_dir():
        files, notes = _list_folders(root)
    else:
        return None
    for split, listed in files.items():
        if not listed:
            raise UserError(f"{root} must hold frames for {split!r}, got none; copy it again")
        name, times = Counter(entry.name for entry in listed).most_common(1)[0]
        if times > 1:
            raise UserError(
                f"{root} must list a frame once, got {name!r} {times} times for {split!r}; "
                "remove the doubled entries"
            )
    require_files(
        (path for listed in files.values() for entry in listed for path in entry.paths),
        "every frame must have its files",
        "copy what is missing, or take the frames out",
    )
    listing.require_inside(p for listed in files.values() for entry in listed for p in entry.paths)
    listing.require_once({split: [entry.image for entry in files[split]] for split in files})
    first = files["train"][0].image
    shape = _read_image(first).shape
    return ArrayListing(files=files, native_size=(shape[0], shape[1]), notes=notes)


def _list_index(root: Path) -> dict[str, tuple[ArrayFiles, ...]]:
    index = root / INDEX
    try:
        listing = read_json(index)
        test = "test" if "test" in listing else "val"
        files = {}
        for split, theirs in (("train", "train"), ("test", test)):
            entries = [
                (image, depth, label) for image, depth, _two, _seven, label in listing[theirs]
            ]
            entries.sort(key=lambda entry: _order(Path(entry[0]).stem))
            files[split] = tuple(
                ArrayFiles(
                    name=Path(image).stem,
                    scene=scene_of(Path(image).stem),
                    image=located(root / image),
                    segmentation=located(root / label),
                    depth=located(root / depth),
                )
                for image, depth, label in entries
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{index} must map train and test to lists of [image, depth, label2, label7, label19], "
            f"got {error!r}; copy it again"
        ) from None
    return files


def _list_folders(root: Path) -> tuple[dict[str, tuple[ArrayFiles, ...]], tuple[str, ...]]:
    folders: dict[str, Path] = {}
    for split, names in _SPLIT_FOLDERS.items():
        found = [root / name for name in names if (root / name / "image").is_dir()]
        if not found:
            raise UserError(
                f"raw cityscapes must have images for {split!r}, got {root} without "
                f"{' or '.join(f'{name}/image/' for name in names)}; copy it again"
            )
        folders[split] = found[0]
    notes: list[str] = []

    def folder_of(task: str, names: tuple[str, ...]) -> str | None:
        for name in names:
            if any((folder / name).is_dir() for folder in folders.values()):
                return name
        notes.append(f"{task}: left out, {root} has no folder {' or '.join(names)} with it")
        return None

    label, depth = folder_of("segmentation", _LABEL_FOLDERS), folder_of("depth", ("depth",))
    if label is None and depth is None:
        raise UserError(
            f"raw cityscapes must have labels of 19 classes or depth, got {root} with neither "
            f"{_LABEL_FOLDERS[0]}/ nor depth/; copy it again"
        )
    files = {
        split: tuple(
            ArrayFiles(
                name=name,
                scene=scene_of(name),
                image=located(folder / "image" / f"{name}.npy"),
                segmentation=located(folder / label / f"{name}.npy") if label else None,
                depth=located(folder / depth / f"{name}.npy") if depth else None,
            )
            for name in sorted(
                (path.stem for path in list_files(folder / "image", ".npy")), key=_order
            )
        )
        for split, folder in folders.items()
    }
    named = {path.name for listed in files.values() for entry in listed for path in entry.paths}
    without = [
        path
        for folder in folders.values()
        for part in ("image", label, depth)
        for path in (list_files(folder / part) if part else ())
        if path.name not in named
    ]
    notes.extend(unread(without, "a frame is NAME.npy in image/ and in the folders of its targets"))
    return files, tuple(notes)


def scene_of(name: str) -> str:
    """Return the city in the name, else the block of ten numbers it is in, else the name."""
    city, separator, _ = name.partition("_")
    if separator and city.isalpha():
        return city
    return f"block-{int(name) // _BLOCK:04d}" if name.isdecimal() else name


def _order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)


def load_arrays(files: ArrayFiles) -> Frame:
    """Read one frame at its own size. Raises `UserError` naming the file at fault."""
    image = _read_image(files.image)
    segmentation = depth = None
    others: dict[Path, np.ndarray] = {}
    if files.segmentation is not None:
        others[files.segmentation] = segmentation = _read_labels(files.segmentation)
    if files.depth is not None:
        others[files.depth] = depth = _read_depth(files.depth)
    require_image_size(image, files.image, others)
    return Frame(
        name=files.name, scene=files.scene, image=image, segmentation=segmentation, depth=depth
    )


def _read_image(path: Path) -> np.ndarray:
    """Read uint8 (H, W, 3) from floats in [0, 1]."""
    values = read_array(path, "image")
    if values.ndim != 3 or values.shape[2] != 3:
        raise UserError(
            f"{path} must hold an image (height, width, 3), got shape {values.shape}; "
            "export it with the channels last"
        )
    if values.dtype == np.uint8:
        return values
    if not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):  # NaN fails as well
        raise UserError(
            f"{path} must hold an image in [0, 1], got [{values.min()}, {values.max()}]; "
            "divide bytes by 255"
        )
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def _read_labels(path: Path) -> np.ndarray:
    """Read uint8 (H, W), 255 where ignored, from train ids with -1 (or 255) where ignored."""
    values = _plane(path, read_array(path, "label map"))
    ignored = (values == -1) | (values == IGNORE_LABEL)
    # NaN fails too, because it equals nothing.
    wrong = ~ignored & ~((values == np.floor(values)) & (values >= 0) & (values < _NUM_CLASSES))
    if wrong.any():
        raise UserError(
            f"{path}: train ids must be in 0-{_NUM_CLASSES - 1} or -1 (ignored), "
            f"got {values[wrong][0]}; use the labels of 19 classes"
        )
    return np.where(ignored, IGNORE_LABEL, values).astype(np.uint8)


def _read_depth(path: Path) -> np.ndarray:
    """Read float32 (H, W) in the unit of `cityscapes`, (p - 1) / 65535; NaN where p <= 1."""
    values = _plane(path, read_array(path, "depth map")).astype(np.float64)
    if not (values.min() >= 0 and values.max() <= 1):
        raise UserError(
            f"{path} must hold disparity as a share of 16 bits, in [0, 1], got "
            f"[{values.min()}, {values.max()}]; divide the PNG's values by {_RANGE}"
        )
    steps = values * _RANGE
    # If a frame was not interpolated, its values are whole steps up to float32's rounding.
    whole = np.rint(steps)
    steps = np.where(np.abs(steps - whole) < 0.02, whole, steps)
    share = (steps.astype(np.float32) - 1) / np.float32(_RANGE)
    return np.where(steps >= 2, share, np.nan).astype(np.float32)


def _plane(path: Path, values: np.ndarray) -> np.ndarray:
    """Return values of shape (H, W) or (H, W, 1) as (H, W). Raises `UserError` for other shapes."""
    plane = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if plane.ndim != 2 or not plane.size:
        raise UserError(
            f"{path} must have shape (height, width) or (height, width, 1), got {values.shape}; "
            "export it without channels"
        )
    return plane
