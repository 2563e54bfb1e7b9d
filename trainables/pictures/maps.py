"""Turns what is predicted at every pixel into colours, and its errors into numbers. NumPy only.

What a map looks like depends on the kind of the task's target (`trainables.registry.tasks`). A map
is an array (H, W) of class ids or values, or (H, W, 3) of vectors.
"""

import numpy as np

from trainables.pictures.colours import RIGHT, WHITE, WRONG, Colours, on_scale

UNLABELLED = 255  # in a map of class ids

# Scales of the kinds whose values have one. A user's own map of values is plain grey.
_SCALES = {"depth": "viridis", "response": "magma", "values": "grey"}
ERROR_SCALE = "inferno"

Map = np.ndarray
Limits = tuple[float, float]

_UNKNOWN, _RIGHT, _WRONG = (np.array(colour, np.uint8) for colour in (WHITE, RIGHT, WRONG))


def is_classes(kind: str, array: Map) -> bool:
    """Return whether the map holds class ids."""
    return kind == "labels" and array.dtype.kind in "iu"


def is_directions(kind: str, array: Map) -> bool:
    """Return whether the map holds vectors of three components."""
    return kind == "vectors" and array.ndim == 3 and array.shape[-1] == 3


def scale_of(kind: str) -> str:
    """Return the name of the scale of a kind's values; grey for those without one of their own."""
    return _SCALES.get(kind, "grey")


def limits_of(kind: str, *maps: Map) -> Limits:
    """Return the values at the ends of the scale: 0 and 1 for responses, else of the maps.

    These are the 1st and the 99th percentile of all finite values, so that single pixels do not
    take the contrast from all others; (0, 1) where no value is finite.
    """
    if kind == "response":
        return 0.0, 1.0
    return _percentiles(maps, 1, 99)


def error_limits(*errors: Map) -> Limits:
    """Return 0 and the 98th percentile of all errors."""
    return 0.0, _percentiles(errors, 1, 98)[1] or 1.0


def coloured(
    kind: str, array: Map, *, palette: Colours | None = None, limits: Limits | None = None
) -> Colours:
    """Return the map in colours, (H, W, 3); unknown pixels are white.

    palette: of classes. limits: the values at the ends of the scale; None for those of this map.
    Directions are red to the right, green upwards and blue towards the camera, as is usual: a wall
    that faces the camera is (128, 128, 255). Of a map with further channels the first is drawn.
    """
    if is_classes(kind, array) and palette is not None:
        known = array < len(palette)
        colours = palette[np.where(known, array, 0).astype(np.intp)]
        return np.where(known[..., None], colours, _UNKNOWN)
    if is_directions(kind, array):
        return _directions(array)
    values = drawn_values(array)
    low, high = limits_of(kind, values) if limits is None else limits
    return on_scale(values, low, high, scale_of(kind))


def drawn_values(array: Map) -> np.ndarray:
    """Return the values (H, W) of a map that is drawn on a scale: of several channels the first."""
    return np.asarray(array if array.ndim == 2 else array[..., 0], dtype=np.float32)


def error_map(kind: str, prediction: Map, truth: Map) -> np.ndarray:
    """Return the error at every pixel, (H, W), NaN where the truth is unknown.

    Class ids: 1 where they differ, else 0. Directions: the angle in degrees; a prediction without
    a direction counts as 90, as in the metrics. Anything else: |prediction - truth|.
    """
    if is_classes(kind, truth):
        wrong = (prediction != truth).astype(np.float32)
        return np.where(truth == UNLABELLED, np.float32(np.nan), wrong)
    if is_directions(kind, truth):
        return _angles(prediction, truth)
    return np.abs(drawn_values(prediction) - drawn_values(truth))


def coloured_errors(kind: str, errors: np.ndarray, limits: Limits) -> Colours:
    """Return errors in colours, (H, W, 3): dark is right, bright is wrong, white is unknown."""
    if kind == "labels":
        wrong = np.where(errors[..., None] > 0, _WRONG, _RIGHT)
        return np.where(np.isnan(errors)[..., None], _UNKNOWN, wrong)
    return on_scale(errors, *limits, ERROR_SCALE)


def error_unit(kind: str, depth_kind: str) -> str:
    """Return what an error is measured in, for a label."""
    units = {"labels": "misclassified", "vectors": "degrees", "depth": unit_of_depth(depth_kind)}
    return units.get(kind, "absolute error")


def unit_of_depth(depth_kind: str) -> str:
    """Return "metres" or "disparity"; "depth" where the data set is not known."""
    return {"metric": "metres", "disparity": "disparity"}.get(depth_kind, "depth")


def _directions(vectors: Map) -> Colours:
    """Return colours of vectors of the camera frame: x right, y down, z forward."""
    turned = np.asarray(vectors, dtype=np.float32) * np.array([1, -1, -1], np.float32)
    known = ~np.isnan(turned).any(axis=-1, keepdims=True)
    bytes_ = np.rint(127.5 * (1 + np.clip(np.nan_to_num(turned), -1, 1))).astype(np.uint8)
    return np.where(known, bytes_, _UNKNOWN)


def _angles(prediction: Map, truth: Map) -> np.ndarray:
    ours = np.asarray(prediction, dtype=np.float64)
    theirs = np.asarray(truth, dtype=np.float64)
    across = np.linalg.norm(np.cross(ours, theirs), axis=-1)
    angles = np.degrees(np.arctan2(across, (ours * theirs).sum(axis=-1)))
    angles[(ours == 0).all(axis=-1)] = 90.0
    angles[np.isnan(theirs).any(axis=-1)] = np.nan
    return angles.astype(np.float32)


def _percentiles(maps: tuple[Map, ...], low: float, high: float) -> Limits:
    flat = [np.asarray(one, dtype=np.float32).ravel() for one in maps]
    values = np.concatenate(flat) if flat else np.empty(0, np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    least, most = np.percentile(values, (low, high))
    return float(least), float(most)
