"""Defines one image with its ground truth, as sources yield it and the store writes it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainables.data.targets import CHANNELS, COLUMNS, DTYPES, TARGETS, kind_of
from trainables.errors import UserError

__all__ = ["TARGETS", "Frame"]

_NOT_A_TARGET = (*COLUMNS, "frame", "scene")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frame:
    """Holds an image and the targets that exist for it; arrays share one height and width.

    name: unique within a split. scene: frames of one scene show the same place, so validation is
        split off by whole scenes.
    image: uint8 (H, W, 3), RGB.
    segmentation: uint8 (H, W), class ids from 0, 255 where unlabelled.
    normals: float32 (H, W, 3), unit vectors of the camera frame (x right, y down, z forward),
        facing the camera; NaN in all three where unknown.
    depth: float32 (H, W), metres along the optical axis (or disparity, see the data set),
        NaN where unknown.
    keypoints, edges: float32 (H, W), responses in [0, 1], NaN where unknown.
    extra: targets of a user's own tasks, by name: class ids as uint8 (H, W), 255 where
        unlabelled; anything else as float32, (H, W) or (H, W, 3) for unit vectors, NaN where
        unknown. The data set's description names the tasks that read them.

    Raises `UserError`, naming the frame, if sizes, channels or types do not fit.
    """

    name: str
    scene: str
    image: np.ndarray
    segmentation: np.ndarray | None = None
    normals: np.ndarray | None = None
    depth: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    edges: np.ndarray | None = None
    extra: Any = field(default_factory=dict)  # {name: array}; Any, because sources pass **arrays

    def __post_init__(self) -> None:
        for field_name in ("name", "scene"):
            _require_text(field_name, getattr(self, field_name))
        if not isinstance(self.extra, Mapping):
            raise UserError(
                f"frame {self.name!r}: `extra` must be a dict of arrays by name, got "
                f"{type(self.extra).__name__}; e.g. extra={{'height': array}}"
            )
        taken = [name for name in self.extra if name in _NOT_A_TARGET]
        if taken:
            raise UserError(
                f"frame {self.name!r}: `extra` must hold targets of your own tasks, got "
                f"{taken[0]!r}; give it as {taken[0]}=… or name it otherwise"
            )
        for column, array in (("image", self.image), *self.arrays()):
            # A masked array would lose its mask when it is stored.
            if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
                raise UserError(
                    f"frame {self.name!r}: {column} must be a NumPy array, got "
                    f"{type(array).__name__}; convert it, with unknown pixels marked as in the "
                    "README's table"
                )
        for column, array in self.arrays():
            self.require(
                column, kind_of(column, {n: _likely_kind(a) for n, a in self.extra.items()})
            )
            if array.shape[:2] != self.size:
                raise UserError(
                    f"frame {self.name!r}: image and {column} must have one size, got image "
                    f"{self.size[0]}x{self.size[1]} and {column} "
                    f"{array.shape[0]}x{array.shape[1]} (height x width); "
                    f"resize one or remove the frame"
                )

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (column, array) of the image and of every target present, `extra` last."""
        for column in COLUMNS:
            array = getattr(self, column)
            if array is not None:
                yield column, array
        yield from self.extra.items()

    def require(self, column: str, kind: str) -> None:
        """Raise `UserError` unless the array of `column` has the channels and type of `kind`."""
        array = dict(self.arrays())[column]
        channels = CHANNELS[kind]
        if array.ndim != (2 if channels is None else 3) or (
            channels is not None and array.shape[2] != channels
        ):
            layout = "(height, width)" if channels is None else f"(height, width, {channels})"
            raise UserError(
                f"frame {self.name!r}: {column} must have shape {layout}, "
                f"got {array.shape}; check how it was decoded"
            )
        if array.dtype != DTYPES[kind]:
            remedy = "convert it"
            whole = array.dtype.kind in "iu"
            if kind == "image" and whole:
                remedy = "scale values to 0-255 (16-bit ones: divide by 257), then convert them"
            elif kind == "depth" and whole:
                remedy = (
                    "convert it to metres (divide millimetres by 1000) or disparity, with NaN "
                    "where 0 means unknown"
                )
            if kind == "image" and array.dtype.kind == "f":
                remedy = (
                    "round values 0-255 and convert them; multiply those in [0, 1] by 255 first"
                )
            elif kind == "labels":
                remedy = "map labels to the classes 0-254, and unlabelled ones to 255, then convert"
            raise UserError(
                f"frame {self.name!r}: {column} must be {DTYPES[kind].__name__}, "
                f"got {array.dtype}; {remedy}"
            )


def _require_text(field_name: str, value: object) -> None:
    """Raise `UserError` unless a name can be stored: text, not empty, and without halves of it."""
    rule = f"`{field_name}` of a frame must be text that UTF-8 can hold, and not empty"
    if not isinstance(value, str) or not value:
        raise UserError(f"{rule}, got {value!r}; give e.g. the stem of its file")
    try:
        value.encode()
    except UnicodeEncodeError:
        # As Python reads a file's name whose bytes are not UTF-8.
        raise UserError(f"{rule}, got {value!r}; rename its file") from None


def _likely_kind(array: np.ndarray) -> str:
    """Return a kind that fits the array; the exact kind is known only when it is stored."""
    if array.dtype == np.uint8:
        return "labels"
    return "vectors" if array.ndim == 3 else "values"
