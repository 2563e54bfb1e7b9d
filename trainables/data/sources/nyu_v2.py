"""Reads NYU-Depth-v2: colour, 40 classes, normals and depth of 480x640 indoor frames.

Three layouts are read; the content of the folder tells which one it is:
- the official `nyu_depth_v2_labeled.mat`, see `trainables.data.sources.nyu_v2_labeled`; normals are
  derived from depth;
- plain folders: `splits.json`, `rgb/NNNN.jpg`, `seg/NNNN.png` (0-39, 255 ignored) and
  `depth/NNNN.png` (uint8, metres = (value + 0.5) / 25.5); normals are derived from depth;
- AdaShare's, which DiSparse reads too: `nyu_v2_3task.json`, lists of paths to image, labels
  (0-39, 255 ignored), normals (RGB = x, z, -y) and depth (`.npy`, metres).

Undistortion left a white border of 5-7 pixels around the images, and JPEG spreads it to 8. It
shows nothing, so the image continues its outermost pixels there and every target is ignored.
The border is not cut off, because that would move the frames off the published pixel grid. The
published labels and normals ignore it as well; the published depth does not.
"""

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.batch import IGNORE_LABEL
from trainables.data.frame import Frame
from trainables.data.resizing import resize_frame
from trainables.data.sources import nyu_v2_labeled
from trainables.data.sources.listing import Listing, list_files, located, unread
from trainables.data.sources.normals_from_depth import Intrinsics, normals_from_depth
from trainables.data.sources.nyu_v2_labeled import LabeledFile, open_labeled
from trainables.data.sources.reading import (
    read_array,
    read_image,
    read_json,
    require_image_size,
)
from trainables.data.sources.source import SPLITS
from trainables.data.splits import scenes_of_runs
from trainables.errors import UserError
from trainables.registry.datasets import DATASETS

NUM_CLASSES = DATASETS["nyu-v2"].num_classes
NATIVE_SIZE = (480, 640)
DEPTH_CAMERA = Intrinsics(fx=518.86, fy=519.47, cx=325.58, cy=253.74)
SMOOTHING_SIGMA = 6.0  # pixels at 480x640; depth comes in steps of 3.9 cm
FRAME_MARGIN = 8  # pixels; one JPEG block
_WHITE = 225
_ADASHARE_INDEX, _PLAIN_INDEX = "nyu_v2_3task.json", "splits.json"

LAYOUTS = DATASETS["nyu-v2"].layouts


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFiles:
    """Holds the files of one frame; `normals` is None if they are to be derived."""

    name: str
    scene: str
    image: Path
    segmentation: Path
    depth: Path
    normals: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files of the frame."""
        paths = (self.image, self.segmentation, self.depth, self.normals)
        return tuple(path for path in paths if path is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class NyuSource:
    """Reads raw NYU-v2 in plain folders or AdaShare's layout; see `sources.source.Source`."""

    files: dict[str, tuple[FrameFiles, ...]]
    native_size: tuple[int, int] = NATIVE_SIZE
    notes: tuple[str, ...] = ()

    def num_frames(self, split: str) -> int:
        """Return how many frames "train" or "test" has."""
        return len(self.files[split])

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        """Read one frame at `size`. Raises `UserError` naming the file at fault."""
        return resize_frame(load_frame(self.files[split][position]), size)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabeledSource:
    """Reads raw NYU-v2 in the official file; see `trainables.data.sources.source.Source`."""

    file: LabeledFile

    @property
    def native_size(self) -> tuple[int, int]:
        """Return (height, width) of the frames in the file."""
        return self.file.size

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a sentence on the frames that are in neither split, if there are any."""
        left = self.file.num_frames - sum(map(len, self.file.numbers.values()))
        return (f"not read: {left} frames of {self.file.path} in neither split",) if left else ()

    def num_frames(self, split: str) -> int:
        """Return how many frames "train" or "test" has."""
        return len(self.file.numbers[split])

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        """Read one frame at `size`. Raises `UserError` naming the file at fault."""
        numbers = self.file.numbers[split]
        image, segmentation, depth = self.file.read(numbers[position])
        frame = _assemble(
            f"{numbers[position]:04d}",
            scenes_of_runs(numbers)[position],
            image,
            segmentation,
            _known_depth(depth),
            normals=None,
        )
        return resize_frame(frame, size)


def open_source(root: Path, *, allow_outside: bool = False) -> "NyuSource | LabeledSource":
    """List the frames of a folder in any supported layout.

    allow_outside: whether files that lie outside the folder may be read. Raises `UserError` for a
    folder of no known layout, a malformed index, and an index that names a missing file, a file
    outside the folder, or a frame twice.
    """
    if (root / nyu_v2_labeled.FILE).is_file():
        file = open_labeled(root / nyu_v2_labeled.FILE, allow_outside=allow_outside)
        return LabeledSource(file=file)
    readers: dict[str, Callable[[Path, Any], dict[str, list[FrameFiles]]]] = {
        _ADASHARE_INDEX: _list_adashare,
        _PLAIN_INDEX: _list_plain,
    }
    index = next((root / name for name in readers if (root / name).is_file()), None)
    if index is None:
        raise UserError(
            f"raw nyu-v2 must lie in a supported layout, got {root} without any of "
            f"{', '.join((nyu_v2_labeled.FILE, *readers))}; supported: {LAYOUTS}"
        )
    files = Listing(root, index, allow_outside=allow_outside)
    files.require_inside((index,))
    try:
        listed = readers[index.name](root, read_json(index))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{index} must map train and test to lists of frames, got {error!r}; copy it again"
        ) from None
    for split, entries in listed.items():
        if not entries:
            raise UserError(f"{index} must list frames for {split!r}, got none; copy it again")
        name, times = Counter(entry.name for entry in entries).most_common(1)[0]
        if times > 1:
            raise UserError(
                f"{index} must list a frame once, got {name!r} {times} times for {split!r}; "
                "remove the doubled entries"
            )
        for entry in entries:
            for path in entry.paths:
                if not path.is_file():
                    raise UserError(
                        f"{index} must name files that exist, got {path} for {split!r}, "
                        "which does not; copy the missing file or take it off the list"
                    )
        files.require_inside(path for entry in entries for path in entry.paths)
    files.require_once({split: [entry.image for entry in listed[split]] for split in listed})
    images = {entry.image for entries in listed.values() for entry in entries}
    left = [
        path
        for folder in {path.parent for path in images}
        for path in list_files(folder)
        if path not in images
    ]
    return NyuSource(
        files={split: tuple(entries) for split, entries in listed.items()},
        notes=unread(sorted(left), f"{index} names no frame of these files"),
    )


def _list_plain(root: Path, listing: dict[str, list[int]]) -> dict[str, list[FrameFiles]]:
    listed = {}
    for split in SPLITS:
        numbers = sorted(
            int(number) if isinstance(number, str) else operator.index(number)
            for number in listing[split]
        )
        listed[split] = [
            FrameFiles(
                name=f"{number:04d}",
                scene=scene,
                image=located(root / "rgb" / f"{number:04d}.jpg"),
                segmentation=located(root / "seg" / f"{number:04d}.png"),
                depth=located(root / "depth" / f"{number:04d}.png"),
                normals=None,
            )
            for number, scene in zip(numbers, scenes_of_runs(numbers), strict=True)
        ]
    return listed


def _list_adashare(root: Path, listing: dict[str, list[list[str]]]) -> dict[str, list[FrameFiles]]:
    listed = {}
    for split in SPLITS:
        entries = sorted(listing[split])
        names = [Path(entry[0]).stem for entry in entries]
        if all(name.isdecimal() for name in names):
            # Sort by number: as text, "10" comes before "2" and runs would be broken up.
            entries.sort(key=lambda entry: int(Path(entry[0]).stem))
            names = [Path(entry[0]).stem for entry in entries]
            scenes = scenes_of_runs([int(name) for name in names])
        else:
            scenes = tuple(names)
        listed[split] = [
            FrameFiles(
                name=name,
                scene=scene,
                image=located(root / image),
                segmentation=located(root / segmentation),
                normals=located(root / normals),
                depth=located(root / depth),
            )
            for name, scene, (image, segmentation, normals, depth) in zip(
                names, scenes, entries, strict=True
            )
        ]
    return listed


def load_frame(files: FrameFiles) -> Frame:
    """Read one frame at its own size. Raises `UserError` naming the file at fault."""
    image = read_image(files.image, ("RGB",), convert="RGB")
    segmentation = read_image(files.segmentation, ("L", "P"))
    known = segmentation[segmentation != IGNORE_LABEL]
    if known.size and known.max() >= NUM_CLASSES:
        raise UserError(
            f"{files.segmentation}: class ids must be in 0-{NUM_CLASSES - 1} or {IGNORE_LABEL} "
            f"(ignored), got {known.max()}; map the raw labels to the 40 classes first, and "
            f"subtract 1 from classes 1-{NUM_CLASSES}, whose 0 becomes {IGNORE_LABEL}"
        )
    depth = _read_depth(files.depth)
    arrays = {files.segmentation: segmentation, files.depth: depth}
    normals = None
    if files.normals is not None:
        arrays[files.normals] = normals = _decode_normals(read_image(files.normals, ("RGB",)))
    require_image_size(image, files.image, arrays)
    return _assemble(files.name, files.scene, image, segmentation, depth, normals)


def _assemble(
    name: str,
    scene: str,
    image: np.ndarray,
    segmentation: np.ndarray,
    depth: np.ndarray,
    normals: np.ndarray | None,
) -> Frame:
    """Return the frame, with missing normals derived and the white border marked as unknown."""
    if normals is None:
        vertical, horizontal = (
            side / full for side, full in zip(depth.shape, NATIVE_SIZE, strict=True)
        )
        normals = normals_from_depth(
            depth,
            DEPTH_CAMERA.scaled(vertical, horizontal),
            sigma=SMOOTHING_SIGMA * horizontal,
        )
    if has_white_frame(image):
        inner = (slice(FRAME_MARGIN, -FRAME_MARGIN),) * 2
        margins = ((FRAME_MARGIN, FRAME_MARGIN),) * 2
        image = np.pad(image[inner], (*margins, (0, 0)), mode="edge")
        segmentation = np.pad(segmentation[inner], margins, constant_values=IGNORE_LABEL)
        depth = np.pad(depth[inner], margins, constant_values=np.nan)
        normals = np.pad(normals[inner], (*margins, (0, 0)), constant_values=np.nan)
    return Frame(
        name=name,
        scene=scene,
        image=image,
        segmentation=segmentation,
        normals=normals,
        depth=depth,
    )


def has_white_frame(image: np.ndarray) -> bool:
    """Return whether the outermost pixels of a frame of the native size are white all around."""
    if image.shape[:2] != NATIVE_SIZE:
        return False
    sides = (image[:3], image[-3:], image[:, :3], image[:, -3:])
    return all((side.min(axis=2) >= _WHITE).mean() > 0.9 for side in sides)


def _read_depth(path: Path) -> np.ndarray:
    """Read metres as float32 (H, W); NaN where unknown (not positive)."""
    if path.suffix.lower() == ".npy":
        depth = read_array(path, "depth map").squeeze().astype(np.float32)
        if depth.ndim != 2:
            raise UserError(
                f"{path} must hold a depth map (height, width), got shape {depth.shape}; "
                "export it without channels"
            )
    else:
        steps = read_image(path, ("L",))
        # The lowest step is below any camera's range.
        depth = np.where(steps > 0, (steps + np.float32(0.5)) / np.float32(25.5), np.float32(0))
    return _known_depth(depth)


def _known_depth(depth: np.ndarray) -> np.ndarray:
    """Return the depth with NaN where it is not positive or not finite."""
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)


def _decode_normals(pixels: np.ndarray) -> np.ndarray:
    """Decode unit vectors from AdaShare's RGB = (x, z, -y); NaN where white."""
    red, green, blue = np.moveaxis(pixels.astype(np.float32) / 127.5 - 1, 2, 0)
    normals = np.stack([red, -blue, green], axis=2)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    unknown = (pixels == 255).all(axis=2) | (length[..., 0] == 0)
    normals /= np.where(length == 0, 1, length)
    normals[unknown] = np.nan
    return normals
