"""Defines the batch that the trainer, the methods and the metrics exchange.

Shape suffixes: B batch, C channels, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # code that only reads a store's description needs no torch
    from torch import Tensor

IGNORE_LABEL = 255  # segmentation: a pixel without a class


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Holds the images and targets of one step, on the device.

    images_BCHW: float32, normalised by the data set's mean and standard deviation.
    targets: by task —
      segmentation: int64 (B, H, W), classes 0…C-1, `IGNORE_LABEL` where unlabelled;
      normals: float32 (B, 3, H, W), unit vectors of the camera frame (x right, y down,
        z forward, so visible surfaces have n_z < 0), NaN in all three where unknown;
      depth: float32 (B, 1, H, W), metres (or disparity, see the data set), NaN where unknown;
      keypoints, edges: float32 (B, 1, H, W), responses in [0, 1], NaN where unknown;
      a user's own task, by the kind of its target: labels as segmentation, vectors as normals,
      depth as depth, a response as edges; values float32 (B, 1, H, W), NaN where unknown.
    """

    images_BCHW: "Tensor"
    targets: Mapping[str, "Tensor"]
