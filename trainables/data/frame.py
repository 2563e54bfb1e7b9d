"""One image with its ground truth, as sources yield it and the store writes it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trainables.errors import UserError

TARGETS = ("segmentation", "normals", "depth", "keypoints", "edges")

_CHANNELS: dict[str, int | None] = {
    "image": 3,
    "segmentation": None,
    "normals": 3,
    "depth": None,
    "keypoints": None,
    "edges": None,
}
_DTYPES: dict[str, type[np.generic]] = {
    "image": np.uint8,
    "segmentation": np.uint8,
    "normals": np.float32,
    "depth": np.float32,
    "keypoints": np.float32,
    "edges": np.float32,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Frame:
    """An image and the targets that exist for it; arrays share one height and width.

    name: unique within a split. scene: frames of one scene share what they show, so
        validation is carved by scene.
    image: uint8 (H, W, 3), RGB.
    segmentation: uint8 (H, W), class ids from 0, 255 where unlabelled.
    normals: float32 (H, W, 3), unit vectors of the camera frame (x right, y down, z forward),
        facing the camera; NaN in all three where unknown.
    depth: float32 (H, W), metres along the optical axis (or disparity, see the data set),
        NaN where unknown.
    keypoints, edges: float32 (H, W), responses in [0, 1], NaN where unknown.

    Raises `UserError` when sizes, channels or types do not fit, naming the frame.
    """

    name: str
    scene: str
    image: np.ndarray
    segmentation: np.ndarray | None = None
    normals: np.ndarray | None = None
    depth: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    edges: np.ndarray | None = None

    def __post_init__(self) -> None:
        for modality, array in self.arrays():
            channels = _CHANNELS[modality]
            layout = "(height, width)" if channels is None else f"(height, width, {channels})"
            if array.ndim != (2 if channels is None else 3) or (
                channels is not None and array.shape[2] != channels
            ):
                raise UserError(
                    f"frame {self.name!r}: {modality} must have shape {layout}, "
                    f"got {array.shape}; check how it was decoded"
                )
            if array.dtype != _DTYPES[modality]:
                raise UserError(
                    f"frame {self.name!r}: {modality} must be {_DTYPES[modality].__name__}, "
                    f"got {array.dtype}; convert it"
                )
            if array.shape[:2] != self.size:
                raise UserError(
                    f"frame {self.name!r}: image and {modality} must have one size, got image "
                    f"{self.size[0]}x{self.size[1]} and {modality} "
                    f"{array.shape[0]}x{array.shape[1]} (height x width); "
                    f"resize one or remove the frame"
                )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """(modality, array) of the image and of every target present."""
        for modality in ("image", *TARGETS):
            array = getattr(self, modality)
            if array is not None:
                yield modality, array
