"""Reads Tiny-Taskonomy: five targets of 512x512 indoor frames (Zamir et al. 2018).

Files `point_X_view_Y_domain_NAME.png` are in folders of a building and a domain, in any of three
orders: `BUILDING/DOMAIN/`, `DOMAIN/BUILDING/` or `DOMAIN/taskonomy/BUILDING/` (as the download
tool of Omnidata leaves them). Their encodings, by domain:
- `rgb`: colour;
- `segment_semantic`: uint8, 0 uncertain (ignored), 1 background, 2-17 sixteen kinds of objects
  (`CLASS_NAMES`), which become classes 0-16;
- `normal`: RGB, n = value / 127.5 - 1 along right, down and towards the camera; grey (no
  direction) is unknown, and so are pixels without depth, where the mesh has a hole;
- `depth_zbuffer`: 16 bits, 1/512 m along the optical axis; from 64500 on (65535 marks holes) and
  at 0 unknown;
- `keypoints2d`, `edge_texture`: 16 bits; the share of 65536, clipped to 0.005 and 0.08, is the
  response; 65535 unknown.

The limits, the clipping and the 17 classes are those of the released AdaShare and DiSparse code.
Three things differ. Depth is in metres (theirs is log(1 + value) / log(65536)), because only then
can resizing treat it correctly. Responses are in [0, 1] (theirs in [-1, 1]). Uncertain pixels are
ignored (in theirs they are background to the loss).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from trainables.data.batch import IGNORE_LABEL
from trainables.data.frame import Frame
from trainables.data.resizing import resize_frame
from trainables.data.sources.listing import Listing, list_files, list_folders, unread
from trainables.data.sources.reading import (
    read_image,
    read_sixteen_bits,
    require_files,
    require_image_size,
)
from trainables.errors import UserError
from trainables.registry.datasets import DATASETS

NATIVE_SIZE = (512, 512)
CLASS_NAMES = DATASETS["taskonomy"].class_names
NUM_CLASSES = len(CLASS_NAMES)
DEPTH_STEPS_PER_METRE = 512.0
DEPTH_LIMIT = 64500  # of the 16-bit value
UNKNOWN = 65535
RESPONSE_LIMITS = {"keypoints2d": 0.005, "edge_texture": 0.08}  # shares of 65536
_SHORTEST_NORMAL = 0.5  # a length; rounding to bytes moves one by less than 0.01

# The domain of each modality, and the modalities by domain.
_IMAGE_DOMAIN = "rgb"
DOMAINS = {
    "segmentation": "segment_semantic",
    "normals": "normal",
    "depth": "depth_zbuffer",
    "keypoints": "keypoints2d",
    "edges": "edge_texture",
}
# Domains whose files carry another name than their folder.
_FILE_DOMAINS = {"segment_semantic": ("segmentsemantic", "segment_semantic")}
# The test buildings of the official `tiny` partition; all others are for training. The official
# validation buildings (collierville, corozal, darden, markleeville, wiconisco) are too, because
# validation is split off from train.
TEST_BUILDINGS = ("ihlen", "mcdade", "muleshoe", "noxapater", "uvalda")
_TEST_SHARE = 1 / 7  # of the buildings if none of the above is there; 5 of 35 in `tiny`
_POINT = re.compile(r"(point_(\d+)_view_(\d+))_domain_(\w+)\.png", re.IGNORECASE)

LAYOUTS = DATASETS["taskonomy"].layouts


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFiles:
    """Holds the files of one frame; `targets` has the file of each modality not left out."""

    name: str
    scene: str
    image: Path
    targets: dict[str, Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskonomySource:
    """Reads raw Taskonomy (a `sources.source.Source`); `notes` say what was left out."""

    files: dict[str, tuple[FrameFiles, ...]]
    native_size: tuple[int, int] = NATIVE_SIZE
    notes: tuple[str, ...] = ()

    def num_frames(self, split: str) -> int:
        """Return how many frames "train" or "test" has."""
        return len(self.files[split])

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        """Read one frame at `size`. Raises `UserError` naming the file at fault."""
        return resize_frame(load_frame(self.files[split][position]), size)


def open_source(root: Path, *, allow_outside: bool = False) -> TaskonomySource:
    """List the frames of a folder in any of the three orders.

    allow_outside: whether files that lie outside the folder may be read. Raises `UserError` for a
    folder of no known layout, fewer than two buildings, frames with a missing file or one outside
    the folder, and a frame that is there twice. A domain that no building has is left out, with a
    note.
    """
    images = _list_domain(root, _IMAGE_DOMAIN)
    if not images:
        raise UserError(
            f"raw taskonomy must lie in a supported layout, got {root} without images "
            f"point_X_view_Y_domain_rgb.png; supported: {LAYOUTS}"
        )
    found = {modality: _list_domain(root, domain) for modality, domain in DOMAINS.items()}
    present = {modality: files for modality, files in found.items() if files}
    if not present:
        raise UserError(
            f"raw taskonomy must have a target, got {root} with rgb alone; supported: {LAYOUTS}"
        )
    notes = tuple(
        f"{modality}: left out, {root} has no folder {domain}/ with files in it"
        for modality, domain in DOMAINS.items()
        if modality not in present
    )
    for modality, files in present.items():
        require_files(
            (
                _expected(image, DOMAINS[modality])
                for key, image in images.items()
                if key not in files
            ),
            f"every image must have its file of {DOMAINS[modality]}",
            "fetch what is missing, remove those images, or remove the domain from every "
            f"building to leave {modality} out",
        )
    tests = buildings_for_test({building for building, _, _ in images})
    listed: dict[str, list[FrameFiles]] = {"train": [], "test": []}
    for key in sorted(images):
        building, point, view = key
        listed["test" if building in tests else "train"].append(
            FrameFiles(
                name=f"{building}-point_{point}_view_{view}",
                scene=building,
                image=images[key],
                targets={modality: files[key] for modality, files in present.items()},
            )
        )
    listing = Listing(root, root, allow_outside=allow_outside)
    for entries in listed.values():
        listing.require_inside(
            p for entry in entries for p in (entry.image, *entry.targets.values())
        )
    listing.require_once({split: [entry.image for entry in listed[split]] for split in listed})
    without = [p for files in present.values() for key, p in files.items() if key not in images]
    folders = sorted({path.parent for path in images.values()})
    other = [p for f in folders for p in list_files(f) if p.suffix.lower() != ".png"]
    return TaskonomySource(
        files={split: tuple(entries) for split, entries in listed.items()},
        notes=(
            *notes,
            *unread(without, "it has no image of rgb"),
            *unread(other, "an image is point_X_view_Y_domain_rgb.png"),
        ),
    )


def buildings_for_test(buildings: Iterable[str]) -> frozenset[str]:
    """Return the test buildings: the official ones, else a seventh by a hash of their names.

    Raises `UserError` unless both train and test get a building.
    """
    names = sorted(buildings)
    chosen = frozenset(name for name in names if name.lower() in TEST_BUILDINGS)
    if not chosen and len(names) > 1:
        by_hash = sorted(names, key=lambda name: blake2b(name.lower().encode()).digest())
        chosen = frozenset(by_hash[: max(1, round(len(names) * _TEST_SHARE))])
    if not chosen or len(chosen) == len(names):
        raise UserError(
            "raw taskonomy must have buildings for train and for test "
            f"({', '.join(TEST_BUILDINGS)}, else a seventh of all), got {', '.join(names)}; "
            "add more buildings"
        )
    return chosen


def _list_domain(root: Path, domain: str) -> dict[tuple[str, int, int], Path]:
    """Return the files of a domain by (building, point, view)."""
    folders = (
        *((building / domain, building.name) for building in list_folders(root)),
        *((folder, folder.name) for folder in list_folders(root / domain)),
        *((folder, folder.name) for folder in list_folders(root / domain / "taskonomy")),
    )
    files: dict[tuple[str, int, int], Path] = {}
    for folder, building in folders:
        for path in list_files(folder, ".png"):
            matched = _POINT.fullmatch(path.name)
            if matched is None or matched[4].lower() not in _FILE_DOMAINS.get(domain, (domain,)):
                raise UserError(
                    f"a file of {domain} must be named "
                    f"point_X_view_Y_domain_{_FILE_DOMAINS.get(domain, (domain,))[0]}.png, "
                    f"got {path}; move it elsewhere or rename it"
                )
            key = building, int(matched[2]), int(matched[3])
            if key in files:
                raise UserError(
                    f"a frame must have one file of {domain}, got {files[key]} and {path}; "
                    "remove one of them"
                )
            files[key] = path
    return files


def _expected(image: Path, domain: str) -> Path:
    """Return the expected path of an image's file of `domain`, for messages."""
    name = image.name.replace(
        f"_domain_{_IMAGE_DOMAIN}.png", f"_domain_{_FILE_DOMAINS.get(domain, (domain,))[0]}.png"
    )
    parts = list(image.parent.parts)
    last = len(parts) - 1 - parts[::-1].index(_IMAGE_DOMAIN)
    parts[last] = domain
    return Path(*parts) / name


def load_frame(files: FrameFiles) -> Frame:
    """Read one frame at its own size. Raises `UserError` naming the file at fault."""
    image = read_image(files.image, ("RGB",))
    readers = {
        "segmentation": _read_labels,
        "normals": _read_normals,
        "depth": _read_depth,
        "keypoints": _read_response,
        "edges": _read_response,
    }
    arrays = {modality: readers[modality](path) for modality, path in files.targets.items()}
    require_image_size(
        image, files.image, {files.targets[modality]: array for modality, array in arrays.items()}
    )
    if "normals" in arrays and "depth" in arrays:
        arrays["normals"][np.isnan(arrays["depth"])] = np.nan
    return Frame(name=files.name, scene=files.scene, image=image, **arrays)


def _read_labels(path: Path) -> np.ndarray:
    labels = read_image(path, ("L", "P"))
    if labels.size and labels.max() > NUM_CLASSES:
        raise UserError(
            f"{path}: labels must be in 0-{NUM_CLASSES} (0 uncertain, 1 background), "
            f"got {labels.max()}; use the files of segment_semantic"
        )
    return np.where(labels == 0, IGNORE_LABEL, labels - np.uint8(1)).astype(np.uint8)


def _read_normals(path: Path) -> np.ndarray:
    right, down, towards = np.moveaxis(
        read_image(path, ("RGB",)).astype(np.float32) / np.float32(127.5) - 1, 2, 0
    )
    normals = np.stack([right, down, -towards], axis=2)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    unknown = length[..., 0] < _SHORTEST_NORMAL
    normals /= np.where(unknown[..., None], 1, length)
    normals[unknown] = np.nan
    return normals


def _read_depth(path: Path) -> np.ndarray:
    steps = read_sixteen_bits(path)
    metres = steps.astype(np.float32) / np.float32(DEPTH_STEPS_PER_METRE)
    return np.where((steps > 0) & (steps < DEPTH_LIMIT), metres, np.nan).astype(np.float32)


def _read_response(path: Path) -> np.ndarray:
    steps = read_sixteen_bits(path)
    matched = _POINT.fullmatch(path.name)
    assert matched is not None
    limit = np.float32(RESPONSE_LIMITS[matched[4].lower()] * 65536)
    response = np.minimum(steps.astype(np.float32) / limit, 1)
    return np.where(steps == UNKNOWN, np.nan, response).astype(np.float32)
