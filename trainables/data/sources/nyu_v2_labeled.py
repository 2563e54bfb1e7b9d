"""Reads NYU-v2 from the official `nyu_depth_v2_labeled.mat` (Silberman et al. 2012).

The file is HDF5 (MATLAB 7.3). MATLAB stores the first axis fastest, so the axes read here are
reversed: `images` (1449, 3, 640, 480) uint8, `depths` (1449, 640, 480) float32 metres, inpainted,
`labels` (1449, 640, 480) uint16, 0 unlabelled, 1-894.

Two facts are not in it. They are read from files beside it or in a folder `meta/` there:
- which frames are train and test: the official `splits.mat` (`trainNdxs`, `testNdxs`, from 1) or
  `official_splits_1_based.json` (`train`, `test`);
- the 40 classes of Gupta et al. 2013: `classMapping40.mat` (`mapClass`, 894 numbers 1-40) or
  `nyu894_to_nyu40.csv` (two columns, a line of names first).
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.data.batch import IGNORE_LABEL
from trainables.data.limits import LARGEST_FRAME, LARGEST_INDEX
from trainables.data.sources.listing import Listing
from trainables.data.sources.mat_files import read_matrices
from trainables.data.sources.reading import read_json, unreadable
from trainables.errors import UserError
from trainables.registry.datasets import DATASETS

if TYPE_CHECKING:
    import h5py

FILE = "nyu_depth_v2_labeled.mat"
NUM_RAW_LABELS = 894
NUM_CLASSES = DATASETS["nyu-v2"].num_classes
_SPLIT_FILES = ("splits.mat", "official_splits_1_based.json")
_MAPPING_FILES = ("classMapping40.mat", "nyu894_to_nyu40.csv")
_SPLIT_NAMES = {"train": "trainNdxs", "test": "testNdxs"}
_LARGEST_CHUNK = 1 << 30  # bytes; HDF5 unpacks a whole chunk to read a frame of it
_FRAMES_LOOKED_AT = 8


@dataclass(frozen=True, kw_only=True)
class LabeledFile:
    """Holds the opened file.

    mapping: uint8 (895,), class by raw label, 255 for label 0.
    numbers: frame numbers of each split, from 0, ascending.
    allow_outside: as in `open_labeled`. num_frames: of the file.
    """

    path: Path
    mapping: np.ndarray
    numbers: dict[str, tuple[int, ...]]
    allow_outside: bool
    num_frames: int

    @cached_property
    def _arrays(self) -> "tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]":
        return _open(self.path, self.allow_outside)

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) of the frames in pixels."""
        return self._arrays[1].shape[2], self._arrays[1].shape[1]

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read image uint8 (H, W, 3), classes uint8 (H, W) with 255, depth float32 (H, W) in m."""
        try:
            image, depth, labels = (dataset[number] for dataset in self._arrays)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{self.path}: frame {number + 1} must be readable, got {error}; copy it again"
            ) from None
        if labels.max() > NUM_RAW_LABELS:
            raise UserError(
                f"{self.path}: labels must be in 0-{NUM_RAW_LABELS}, got {labels.max()} in frame "
                f"{number + 1}; copy it again"
            )
        return (
            np.ascontiguousarray(image.transpose(2, 1, 0)),
            self.mapping[labels.T],
            np.ascontiguousarray(depth.T.astype(np.float32)),
        )


def open_labeled(path: Path, *, allow_outside: bool = False) -> LabeledFile:
    """Open the file. Raises `UserError` naming a file that is missing, damaged or unsuitable.

    allow_outside: whether it and the files beside it may be links that lead out of their folder,
      and whether its arrays may lie in other files.
    """
    splits = _beside(path, _SPLIT_FILES, "the official split")
    classes = _beside(path, _MAPPING_FILES, "the classes of the raw labels")
    listing = Listing(path.parent, path.parent, allow_outside=allow_outside)
    listing.require_inside((path, splits, classes))
    images, _, labels = _open(path, allow_outside)
    numbers = _read_splits(splits, len(images))
    mapping = _read_mapping(classes)
    _require_raw_labels(path, labels, [n for listed in numbers.values() for n in listed])
    return LabeledFile(
        path=path,
        mapping=mapping,
        numbers=numbers,
        allow_outside=allow_outside,
        num_frames=len(images),
    )


def _require_raw_labels(path: Path, labels: "h5py.Dataset", numbers: list[int]) -> None:
    """Raise `UserError` if some frames look as if their labels were mapped to 40 already."""
    looked_at = numbers[:: -(-len(numbers) // _FRAMES_LOOKED_AT)]
    try:
        largest = max(int(labels[number].max()) for number in looked_at)
    except (OSError, RuntimeError, ValueError):
        return  # said for the frame when it is read
    if 0 < largest <= NUM_CLASSES:
        raise UserError(
            f"{path}: labels must be the raw ones, 1-{NUM_RAW_LABELS}, got none above {largest} in "
            f"{len(looked_at)} frames, as if they were mapped to {NUM_CLASSES} classes already; "
            "copy the official file, or give mapped labels in plain folders"
        )


def _open(path: Path, allow_outside: bool) -> "tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]":
    import h5py  # needed only for this file, and slow to load

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise unreadable(path, "HDF5 file (MATLAB 7.3)", error) from None
    expected = {"images": (4, "u1"), "depths": (3, "f4"), "labels": (3, "u2")}
    for name, (dimensions, kind) in expected.items():
        # A link may lead into any other file of this machine.
        links = file.id.links
        linked = links.exists(name.encode()) and links.get_info(name.encode()).type
        if linked not in (False, h5py.h5l.TYPE_HARD) and not allow_outside:
            raise _elsewhere(path, name, "a link")
        found: Any = file.get(name)
        if not (
            isinstance(found, h5py.Dataset)
            and found.ndim == dimensions
            and found.dtype == np.dtype(kind)
            and (name != "images" or found.shape[1] == 3)
            and found.shape[0] == file["images"].shape[0]
            and found.shape[-2:] == file["images"].shape[-2:]
        ):
            held = f"{found.dtype} {found.shape}" if isinstance(found, h5py.Dataset) else "none"
            raise UserError(
                f"{path} must hold {name} as {np.dtype(kind).name} of {dimensions} axes (frames, "
                f"{'3, ' if dimensions == 4 else ''}width, height), got {held}; "
                "copy the official file again"
            )
        elsewhere = found.is_virtual or found.external
        if elsewhere and not allow_outside:
            raise _elsewhere(path, name, "an array whose content is in other files")
        for problem in _lies(found, stored_here=not elsewhere):
            raise UserError(
                f"{path}: {name} must be as large as it says, got {problem}; copy the official "
                "file again"
            )
    return file["images"], file["depths"], file["labels"]


def _elsewhere(path: Path, name: str, got: str) -> UserError:
    return UserError(
        f"{path} must hold {name} itself, got {got}; copy the official file, or convert the data "
        "with `python -m trainables convert … --allow-outside` if you trust where it leads"
    )


def _lies(dataset: "h5py.Dataset", *, stored_here: bool) -> Iterator[str]:
    """Yield what is wrong with the sizes that an array declares."""
    height, width = dataset.shape[-1], dataset.shape[-2]
    if height * width > LARGEST_FRAME:
        yield f"frames of {height}x{width}, more than {LARGEST_FRAME} pixels"
    if not stored_here:
        return
    if dataset.chunks is None:
        if dataset.id.get_storage_size() < dataset.nbytes:
            yield f"{dataset.id.get_storage_size()} bytes stored for the shape {dataset.shape}"
        return
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk > _LARGEST_CHUNK:
        yield f"blocks of {chunk} bytes, more than {_LARGEST_CHUNK}"
    declared = math.prod(
        -(-side // block) for side, block in zip(dataset.shape, dataset.chunks, strict=True)
    )
    if dataset.id.get_num_chunks() < declared:
        yield f"{dataset.id.get_num_chunks()} of {declared} blocks in the file"


def _beside(path: Path, names: tuple[str, ...], what: str) -> Path:
    for folder in (path.parent, path.parent / "meta"):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise UserError(
        f"{path} must have {what} beside it, got none of {', '.join(names)} in {path.parent} or "
        "its folder meta/; copy one there"
    )


def _read_splits(path: Path, num_frames: int) -> dict[str, tuple[int, ...]]:
    try:
        if path.suffix == ".mat":
            matrices = read_matrices(path)
            listed = {split: matrices[name].ravel() for split, name in _SPLIT_NAMES.items()}
        else:
            content = read_json(path)
            listed = {split: np.asarray(content[split]).ravel() for split in _SPLIT_NAMES}
        numbers = {split: sorted(int(n) - 1 for n in values) for split, values in listed.items()}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} must list the frames of train and test from 1, got {error!r}; copy it again"
        ) from None
    together = [n for values in numbers.values() for n in values]
    if not (
        all(numbers.values())
        and len(set(together)) == len(together)
        and min(together) >= 0
        and max(together) < num_frames
    ):
        raise UserError(
            f"{path} must list each of the frames 1-{num_frames} for train or test at most once, "
            f"got {len(together)} frames, {len(set(together))} of them different, from "
            f"{min(together, default=-1) + 1} to {max(together, default=-1) + 1}; copy it again"
        )
    return {split: tuple(values) for split, values in numbers.items()}


def _read_mapping(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".mat":
            listed = read_matrices(path)["mapClass"].ravel().tolist()
            classes = {raw + 1: int(c) for raw, c in enumerate(listed)}
        else:
            if path.stat().st_size > LARGEST_INDEX:
                raise ValueError(f"{path.stat().st_size} bytes, more than {LARGEST_INDEX}")
            with open(path, newline="") as handle:
                classes = {int(raw): int(c) for raw, c in list(csv.reader(handle))[1:]}
    except (OSError, ValueError, KeyError, OverflowError, csv.Error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{path} must give a class for every raw label, got {error!r}; copy it again"
        ) from None
    if sorted(classes) != list(range(1, NUM_RAW_LABELS + 1)) or not all(
        1 <= c <= NUM_CLASSES for c in classes.values()
    ):
        raise UserError(
            f"{path} must map the raw labels 1-{NUM_RAW_LABELS} to classes 1-{NUM_CLASSES}, "
            f"got {len(classes)} labels to classes {min(classes.values(), default=0)}-"
            f"{max(classes.values(), default=0)}; copy it again"
        )
    mapping = np.full(NUM_RAW_LABELS + 1, IGNORE_LABEL, np.uint8)
    mapping[list(classes)] = np.array(list(classes.values())) - 1
    return mapping
