"""Resizes frames so that each modality keeps its meaning.

The image is averaged over area. Labels, depth and other values take the pixel at the new pixel's
centre, because a mean of labels, or a mean across an occlusion, has no meaning. Normals and
responses are averaged over the area where they are known, and normals are made unit vectors again.
Depth is not rescaled: the camera's focal length in pixels shrinks with the image, so the geometry
is the same. Disparity is not rescaled either: its unit is that of the native image.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np

from trainables.data.frame import Frame
from trainables.data.targets import kind_of

Size = tuple[int, int]


def resize_frame(frame: Frame, size: Size, own_kinds: Mapping[str, str] | None = None) -> Frame:
    """Return the frame resized to `size` (height, width).

    own_kinds: the kinds of `frame.extra`, by name. Raises `UserError` if one is missing.
    """
    if frame.size == size:
        return frame
    arrays = {
        column: resize_array(array, size, kind_of(column, own_kinds))
        for column, array in frame.arrays()
    }
    extra = {name: arrays.pop(name) for name in frame.extra}
    return Frame(name=frame.name, scene=frame.scene, extra=extra, **arrays)


def resize_array(array: np.ndarray, size: Size, kind: str) -> np.ndarray:
    """Return a column's array at `size`, resized by the rule of its kind."""
    if kind in ("labels", "values", "depth"):
        return resize_nearest(array, size)
    if kind == "vectors":
        return resize_normals(array, size)
    if kind == "image":
        return np.rint(resize_area(array.astype(np.float32), size)).astype(np.uint8)
    return resize_response(array, size)


def resize_nearest(array: np.ndarray, size: Size) -> np.ndarray:
    """Return the array at `size`, taking the pixel under each new pixel's centre."""
    rows, columns = (
        ((np.arange(new) * 2 + 1) * old // (2 * new))
        for new, old in zip(size, array.shape, strict=False)
    )
    return array[rows[:, None], columns[None, :]]


def resize_area(array: np.ndarray, size: Size) -> np.ndarray:
    """Return the mean over the area that each new pixel covers, fractions of pixels included."""
    height, width = array.shape[:2]
    rows, columns = area_weights(height, size[0]), area_weights(width, size[1])
    vertical = (rows @ array.reshape(height, -1)).reshape(size[0], width, -1)
    # Channels go with the rows into one large product; products of three columns are very slow.
    lines = np.ascontiguousarray(vertical.transpose(0, 2, 1)).reshape(-1, width)
    result = (lines @ columns.T).reshape(size[0], -1, size[1]).transpose(0, 2, 1)
    return np.ascontiguousarray(result).reshape(*size, *array.shape[2:]).astype(np.float32)


def resize_normals(normals: np.ndarray, size: Size) -> np.ndarray:
    """Return the mean known normals as unit vectors; NaN if less than half the area is known."""
    known = ~np.isnan(normals[..., 0])
    total = resize_area(np.where(known[..., None], normals, 0).astype(np.float32), size)
    share = resize_area(known.astype(np.float32), size)
    length = np.linalg.norm(total, axis=2, keepdims=True)
    usable = (share >= 0.5 - 1e-6) & (length[..., 0] > 1e-6)
    result = total / np.where(length > 1e-6, length, 1)
    result[~usable] = np.nan
    return result.astype(np.float32)


def resize_response(response: np.ndarray, size: Size) -> np.ndarray:
    """Return the mean known responses (H, W); NaN if less than half the area is known."""
    known = ~np.isnan(response)
    if known.all():
        return resize_area(response, size)
    total = resize_area(np.where(known, response, 0).astype(np.float32), size)
    share = resize_area(known.astype(np.float32), size)
    usable = share >= 0.5 - 1e-6
    mean = np.clip(total / np.where(usable, share, 1), 0, 1)
    return np.where(usable, mean, np.nan).astype(np.float32)


@cache
def area_weights(old: int, new: int) -> np.ndarray:
    """Return the share of each new pixel that every old one covers: float32 (new, old).

    Rows sum to 1.
    """
    edges = np.arange(new + 1) * (old / new)
    starts, ends = edges[:-1, None], edges[1:, None]
    pixels = np.arange(old)[None, :]
    covered = np.minimum(ends, pixels + 1) - np.maximum(starts, pixels)
    weights = np.maximum(covered, 0)
    shares = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    shares.flags.writeable = False
    return shares
