"""Reads Cityscapes: colour, 19 classes and disparity of street scenes (Cordts et al. 2016).

Two layouts are read; the content of the folder tells which one it is:
- the official one: `leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png`, with
  `gtFine/…/NAME_gtFine_labelIds.png` (label ids; the 19 evaluated ones become train ids 0-18,
  all others are ignored), `disparity/…/NAME_disparity.png` (16 bits: p > 0 is a disparity of
  (p - 1) / 256 pixels, p = 0 is unknown) and `camera/…/NAME_camera.json`;
- AdaShare's, which DiSparse reads too: `.npy` files named by `cityscape.json` (lists of
  `[image, depth, label2, label7, label19]`) or, without it, in folders `train/` and `val/` (or
  `test/`) with `image/`, `label_19/` (or `label/`) and `depth/`. Images are floats in [0, 1],
  labels train ids with -1 ignored, depth p / 65535 with 0 unknown.

The official `test` labels are withheld, so `val` is our test split in both layouts.

Depth is disparity, in the published unit: the share u = (p - 1) / 65535 of the 16-bit range. A
value of 1 is 255.996 pixels of the 2048 pixels wide image, whatever size the frame is stored at.
AdaShare does not subtract the 1 and has u + 1/65535; the difference is at most a thousandth of the
disparity within 100 m. p = 1, a disparity of 0, is unknown, because no ratio to it exists;
AdaShare leaves it out too.

`cityscapes-metric` is the same data with depth in metres, baseline * fx / disparity, unknown where
the disparity is below a pixel. It needs the camera files, which only the official layout has.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.batch import IGNORE_LABEL
from trainables.data.frame import Frame
from trainables.data.resizing import resize_frame
from trainables.data.sources.cityscapes_arrays import ArrayFiles, list_arrays, load_arrays
from trainables.data.sources.listing import (
    Listing,
    in_two_splits,
    list_files,
    list_folders,
    located,
    unread,
)
from trainables.data.sources.reading import (
    read_image,
    read_json,
    read_sixteen_bits,
    require_files,
    require_image_size,
)
from trainables.errors import UserError
from trainables.registry.datasets import DATASETS

NUM_CLASSES = DATASETS["cityscapes"].num_classes
NATIVE_SIZE = (1024, 2048)
# Train ids 0-18 in order: road, sidewalk, building, wall, fence, pole, traffic light, traffic
# sign, vegetation, terrain, sky, person, rider, car, truck, bus, train, motorcycle, bicycle.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_LARGEST_LABEL_ID = 33
_LABELS_LOOKED_AT = 8  # files
DISPARITY_RANGE = 65535.0
_STEPS_PER_PIXEL = 256.0
_SPLITS = {"train": "train", "test": "val"}  # ours, theirs
_IMAGE = "_leftImg8bit"

LAYOUTS = DATASETS["cityscapes"].layouts


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Holds a camera's `baseline` in metres and `fx` in pixels of the native width."""

    baseline: float
    fx: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFiles:
    """Holds the files of one frame of the official layout; None for those left out."""

    name: str
    scene: str
    image: Path
    segmentation: Path | None
    disparity: Path | None
    camera: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all files of the frame."""
        paths = (self.image, self.segmentation, self.disparity, self.camera)
        return tuple(path for path in paths if path is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class CityscapesSource:
    """Reads raw Cityscapes in either layout; see `trainables.data.sources.source.Source`.

    notes: sentences for the user on what was left out.
    """

    files: dict[str, tuple[FrameFiles | ArrayFiles, ...]]
    native_size: tuple[int, int]
    notes: tuple[str, ...] = ()

    def num_frames(self, split: str) -> int:
        """Return how many frames "train" or "test" has."""
        return len(self.files[split])

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        """Read one frame at `size`. Raises `UserError` naming the file at fault."""
        files = self.files[split][position]
        frame = load_arrays(files) if isinstance(files, ArrayFiles) else load_frame(files)
        return resize_frame(frame, size)


def open_source(root: Path, *, allow_outside: bool = False) -> CityscapesSource:
    """List the frames of a folder in either layout; depth is disparity.

    allow_outside: whether files that lie outside the folder may be read. Raises `UserError` for a
    folder of no known layout, a folder without frames, frames with a missing file or one outside
    the folder, and a frame that is listed twice. A target that is missing for all frames is left
    out, with a note.
    """
    if (root / "leftImg8bit").is_dir():
        return _open_official(root, metric=False, allow_outside=allow_outside)
    listed = list_arrays(root, allow_outside=allow_outside)
    if listed is None:
        raise UserError(
            f"raw cityscapes must lie in a supported layout, got {root} without leftImg8bit/, "
            f"cityscape.json or train/image/; supported: {LAYOUTS}"
        )
    return CityscapesSource(
        files={**listed.files}, native_size=listed.native_size, notes=listed.notes
    )


def open_metric_source(root: Path, *, allow_outside: bool = False) -> CityscapesSource:
    """List the frames of the official layout, with depth in metres; errors as in `open_source`."""
    if not (root / "leftImg8bit").is_dir():
        raise UserError(
            f"cityscapes-metric must lie in the official layout, got {root} without leftImg8bit/; "
            "depth in metres needs its camera files, `cityscapes` (disparity) does not"
        )
    return _open_official(root, metric=True, allow_outside=allow_outside)


def _open_official(root: Path, *, metric: bool, allow_outside: bool) -> CityscapesSource:
    images = {split: _list_official(root, theirs) for split, theirs in _SPLITS.items()}
    everything = [(theirs, name) for split, theirs in _SPLITS.items() for name in images[split]]
    for name in images["train"].keys() & images["test"].keys():
        raise in_two_splits(f"{images['train'][name]}", *_SPLITS.values())
    notes: list[str] = []

    def layer(folder: str, suffix: str, task: str) -> Callable[[str, str], Path] | None:
        def path(theirs: str, name: str) -> Path:
            return located(root / folder / theirs / name.partition("_")[0] / f"{name}_{suffix}")

        if not (root / folder).is_dir():
            notes.append(f"{task}: left out, {root} has no folder {folder}/")
            return None
        require_files(
            (path(*pair) for pair in everything),
            f"every image must have its file in {folder}/",
            f"unpack all of {folder}, or remove the folder to leave {task} out",
        )
        named = {path(*pair).name for pair in everything}
        without = [
            file
            for theirs in _SPLITS.values()
            for city in list_folders(root / folder / theirs)
            for file in list_files(city, Path(suffix).suffix)
            if file.stem.endswith(Path(suffix).stem) and file.name not in named
        ]
        notes.extend(unread(without, "it has no image in leftImg8bit/"))
        return path

    segmentation = layer("gtFine", "gtFine_labelIds.png", "segmentation")
    disparity = layer("disparity", "disparity.png", "depth")
    if metric and disparity is not None and not (root / "camera").is_dir():
        raise UserError(
            f"cityscapes-metric must have the camera of every image, got {root} without camera/; "
            "unpack camera_trainvaltest.zip there, or convert `cityscapes`, which needs none"
        )
    camera = layer("camera", "camera.json", "depth") if metric and disparity else None
    if segmentation is None and disparity is None:
        raise UserError(
            f"raw cityscapes must have gtFine/ or disparity/, got {root} with neither; "
            "unpack them beside leftImg8bit/"
        )
    files = {
        split: tuple(
            FrameFiles(
                name=name,
                scene=name.partition("_")[0],
                image=image,
                segmentation=segmentation(theirs, name) if segmentation else None,
                disparity=disparity(theirs, name) if disparity else None,
                camera=camera(theirs, name) if camera else None,
            )
            for name, image in images[split].items()
        )
        for split, theirs in _SPLITS.items()
    }
    listing = Listing(root, root, allow_outside=allow_outside)
    listing.require_inside(
        p for entries in files.values() for entry in entries for p in entry.paths
    )
    listing.require_once({split: [entry.image for entry in files[split]] for split in files})
    for split, theirs in _SPLITS.items():
        _require_label_ids([entry.segmentation for entry in files[split]])
        notes.extend(_unread_images(root, theirs))
    return CityscapesSource(files={**files}, native_size=NATIVE_SIZE, notes=tuple(notes))


def _is_image(path: Path) -> bool:
    return path.stem.endswith(_IMAGE) and path.suffix.lower() == ".png"


def _unread_images(root: Path, theirs: str) -> tuple[str, ...]:
    """Return the note on files beside the images that are none, if there are any."""
    folder = root / "leftImg8bit" / theirs
    files = [file for city in (folder, *list_folders(folder)) for file in list_files(city)]
    return unread(
        (file for file in files if file.parent == folder or not _is_image(file)),
        f"an image is named CITY/CITY_SEQUENCE_FRAME{_IMAGE}.png",
    )


def _list_official(root: Path, theirs: str) -> dict[str, Path]:
    """Return the images by their names CITY_SEQUENCE_FRAME, in order."""
    cities = list_folders(root / "leftImg8bit" / theirs)
    found = [path for city in cities for path in list_files(city) if _is_image(path)]
    names: dict[str, Path] = {}
    for path in found:
        name = path.stem.removesuffix(_IMAGE)
        if name in names:
            raise UserError(
                f"a frame must have one image, got {names[name]} and {path}; remove one of them"
            )
        names[name] = path
        if name.partition("_")[0] != path.parent.name:
            raise UserError(
                f"an image of {path.parent.name} must be named {path.parent.name}_…, got {path}; "
                "move it into its city's folder"
            )
    if not names:
        raise UserError(
            f"raw cityscapes must have images CITY/*_leftImg8bit.png in "
            f"{root / 'leftImg8bit' / theirs}, got none; unpack leftImg8bit_trainvaltest.zip"
        )
    return names


def _require_label_ids(paths: Iterable[Path | None]) -> None:
    """Raise `UserError` if some of a split's files look as if they held train ids already.

    Vegetation, sky and cars, which no street is without, have label ids above 20 and train ids
    8, 10 and 13.
    """
    labels = [path for path in paths if path is not None]
    looked_at = labels[:: -(-len(labels) // _LABELS_LOOKED_AT)] if labels else []
    try:
        found = [read_image(path, ("L", "P")) for path in looked_at]
    except UserError:
        return  # said of the frame when it is loaded
    largest = max((int(ids[ids != IGNORE_LABEL].max(initial=0)) for ids in found), default=0)
    if 0 < largest < NUM_CLASSES:
        raise UserError(
            f"{looked_at[0]}: labels must be label ids 0-{_LARGEST_LABEL_ID}, got none above "
            f"{largest} in {len(looked_at)} files, as if they were train ids 0-{NUM_CLASSES - 1} "
            "already; use the *_labelIds.png of gtFine"
        )


def load_frame(files: FrameFiles) -> Frame:
    """Read one frame of the official layout at its own size. Raises `UserError` naming the file."""
    image = read_image(files.image, ("RGB",))
    segmentation = depth = None
    others: dict[Path, np.ndarray] = {}
    if files.segmentation is not None:
        others[files.segmentation] = segmentation = read_labels(files.segmentation)
    if files.disparity is not None:
        others[files.disparity] = steps = read_sixteen_bits(files.disparity)
        if files.camera is None:
            depth = disparity_share(steps)
        else:
            depth = metric_depth(steps, read_camera(files.camera))
    require_image_size(image, files.image, others)
    return Frame(
        name=files.name, scene=files.scene, image=image, segmentation=segmentation, depth=depth
    )


def read_labels(path: Path) -> np.ndarray:
    """Read train ids 0-18, or 255, as uint8 (H, W) from a picture of label ids 0-33."""
    label_ids = read_image(path, ("L", "P"))
    known = label_ids[label_ids != IGNORE_LABEL]
    if known.size and known.max() > _LARGEST_LABEL_ID:
        raise UserError(
            f"{path}: label ids must be in 0-{_LARGEST_LABEL_ID} or {IGNORE_LABEL}, "
            f"got {known.max()}; use the *_labelIds.png of gtFine"
        )
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[list(LABEL_IDS)] = np.arange(NUM_CLASSES)
    return table[label_ids]


def disparity_share(steps: np.ndarray) -> np.ndarray:
    """Return float32 (p - 1) / 65535 of 16-bit values p, in the same shape; NaN where p <= 1."""
    share = (steps.astype(np.float32) - 1) / np.float32(DISPARITY_RANGE)
    return np.where(steps > 1, share, np.nan).astype(np.float32)


def metric_depth(steps: np.ndarray, camera: Camera) -> np.ndarray:
    """Return metres as float32 for 16-bit values p; NaN if unknown or below a pixel.

    A disparity of one pixel is about 470 m, which this camera pair cannot tell from infinity.
    """
    pixels = np.maximum(steps.astype(np.float64) - 1, 1) / _STEPS_PER_PIXEL
    metres = camera.baseline * camera.fx / pixels
    return np.where(pixels >= 1, metres, np.nan).astype(np.float32)


def read_camera(path: Path) -> Camera:
    """Read a camera. Raises `UserError` unless its baseline and focal length are positive."""
    try:
        values = read_json(path)
        camera = Camera(
            baseline=float(values["extrinsic"]["baseline"]), fx=float(values["intrinsic"]["fx"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} must give extrinsic.baseline and intrinsic.fx, got {error!r}; copy it again"
        ) from None
    if not (0 < camera.baseline < float("inf") and 0 < camera.fx < float("inf")):
        raise UserError(
            f"{path} must give a positive baseline and fx, got {camera.baseline} and {camera.fx}; "
            "copy it again"
        )
    return camera
