"""Converts a frame's arrays to the bytes in the store and back.

There are two steps. First, values are converted to the stored type of the column's kind, with an
error of at most half a quantisation step for unit vectors and responses, and half a unit in the
last place of float16 for depth. Then encoded columns are compressed, without loss except for JPEG.
"""

import io

import numpy as np
from PIL import Image

from trainables.data.batch import IGNORE_LABEL
from trainables.data.targets import kind_of
from trainables.errors import UserError

ENCODINGS = ("raw", "png", "jpeg")
# By kind of column (`trainables.data.targets`).
STORED_DTYPES: dict[str, np.dtype] = {
    "image": np.dtype(np.uint8),
    "labels": np.dtype(np.uint8),
    "values": np.dtype(np.float32),
    "depth": np.dtype(np.float16),
    "vectors": np.dtype(np.int8),
    "response": np.dtype(np.uint8),
}
TRAILING_SHAPE: dict[str, tuple[int, ...]] = {
    "image": (3,),
    "labels": (),
    "values": (),
    "depth": (),
    "vectors": (3,),
    "response": (),
}
NORMAL_SCALE = 127.0
# Of a length from 1. Bytes of a picture, rounded towards zero, move it by less than 0.015.
UNIT_TOLERANCE = 0.02
RESPONSE_SCALE = 255.0
# If responses may be unknown, the highest byte value marks that and the others hold responses.
UNKNOWN_RESPONSE, MARKED_RESPONSE_SCALE = 255, 254.0
JPEG_QUALITY = 95
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by bytes per pixel


def to_stored(
    column: str,
    array: np.ndarray,
    frame: str,
    *,
    kind: str | None = None,
    unknown_responses: bool = False,
    num_classes: int | None = None,
) -> np.ndarray:
    """Convert a `Frame`'s array to the stored type; unknown (NaN) becomes the type's own mark.

    frame: the frame and its split, for messages. kind: kind of the column; None for a column of a
      built-in task. num_classes: of labels; None if any number of them is right.
    unknown_responses: as in `SplitMeta`; if False, responses must be known everywhere.
    Raises `UserError`, naming the frame, for values that the column's kind does not have.
    """
    kind = kind_of(column) if kind is None else kind
    if kind == "labels" and num_classes is not None:
        wrong = (array >= num_classes) & (array != IGNORE_LABEL)
        if wrong.any():
            raise UserError(
                f"frame {frame}: {column} must be a class 0-{num_classes - 1}, or {IGNORE_LABEL} "
                f"where unlabelled, got {array[wrong].max()}; map the labels to the classes, or "
                "give the data set's description more of them"
            )
    if kind == "vectors":
        return _stored_vectors(column, array, frame)
    if kind == "depth":
        return _stored_depth(column, array, frame)
    if kind == "response":
        return _stored_response(column, array, frame, unknown_responses)
    if kind == "values" and np.isinf(array).any():
        raise UserError(
            f"frame {frame}: {column} must be finite, or NaN where unknown, got infinity; "
            "mark those pixels as NaN"
        )
    return np.ascontiguousarray(array)


def _stored_vectors(column: str, array: np.ndarray, frame: str) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt(np.einsum("...c,...c->...", array, array))
        wrong = ~(np.abs(lengths - 1) <= UNIT_TOLERANCE)  # NaN and infinity too
    if wrong.any():
        wrong &= ~np.isnan(array).all(axis=-1)
    if wrong.any():
        first = ", ".join(f"{component:.4g}" for component in array[wrong][0])
        remedy = "divide them by their length, and decode colours 0-255 first (value / 127.5 - 1)"
        if not array[wrong][0].any():
            remedy = "mark unknown pixels as NaN"
        raise UserError(
            f"frame {frame}: {column} must be unit vectors, or NaN in all three where unknown, got "
            f"[{first}]; {remedy}"
        )
    # A unit vector has a component of at least 0.57, so a known one never rounds to all zero.
    scaled = np.rint(np.nan_to_num(array) * NORMAL_SCALE)
    return np.clip(scaled, -NORMAL_SCALE, NORMAL_SCALE).astype(np.int8)


def _stored_depth(column: str, array: np.ndarray, frame: str) -> np.ndarray:
    known = array[~np.isnan(array)]
    if known.size and not (known.min() > 0 and known.max() <= np.finfo(np.float16).max):
        raise UserError(
            f"frame {frame}: {column} must be in (0, 65504] or NaN, got "
            f"[{known.min():.6g}, {known.max():.6g}]; mark unknown pixels as NaN"
        )
    # Positive values below the smallest float16 would become 0, the mark of "unknown".
    tiny = np.finfo(np.float16).smallest_subnormal
    lifted = np.fmax(array, np.where(np.isnan(array), np.nan, tiny))
    return np.nan_to_num(lifted).astype(np.float16)


def _stored_response(
    column: str, array: np.ndarray, frame: str, unknown_responses: bool
) -> np.ndarray:
    unknown = np.isnan(array) if unknown_responses else np.False_
    responses = np.where(unknown, np.float32(0), array)
    if not (responses.min() >= 0 and responses.max() <= 1):  # NaN fails as well
        remedy = "rescale the responses"
        if np.isnan(responses).any():
            remedy = "if pixels are unknown, say so by unknown_responses=True in the description"
        raise UserError(
            f"frame {frame}: {column} must be in [0, 1] everywhere, got "
            f"[{responses.min():.6g}, {responses.max():.6g}]; {remedy}"
        )
    scale = MARKED_RESPONSE_SCALE if unknown_responses else RESPONSE_SCALE
    return np.where(unknown, UNKNOWN_RESPONSE, np.rint(responses * scale)).astype(np.uint8)


def has_known(stored: np.ndarray, kind: str, *, unknown_responses: bool) -> bool:
    """Return whether a pixel of stored values is known; see `to_stored` for the marks."""
    if kind == "labels":
        return bool((stored != IGNORE_LABEL).any())
    if kind in ("depth", "vectors"):
        return bool(stored.any())
    if kind == "values":
        return not np.isnan(stored).all()
    return not unknown_responses or bool((stored != UNKNOWN_RESPONSE).any())


def compress(stored: np.ndarray, encoding: str) -> bytes:
    """Return one frame, (H, W) or (H, W, 3), as a PNG or JPEG file; PNG is lossless."""
    height, width = stored.shape[:2]
    pixels = np.ascontiguousarray(stored).view(np.uint8).reshape(height, width, -1)
    mode = _MODES[pixels.shape[2]]
    picture = Image.frombytes(mode, (width, height), pixels.tobytes())
    buffer = io.BytesIO()
    if encoding == "jpeg":
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    else:
        picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decompress(data: object, kind: str, size: tuple[int, int]) -> np.ndarray:
    """Return the frame that `compress` was given, for a column of that kind.

    Raises `OSError` or `ValueError` for a damaged picture.
    """
    dtype, trailing = STORED_DTYPES[kind], TRAILING_SHAPE[kind]
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:  # type: ignore[arg-type]
            if (picture.height, picture.width) != size:
                raise ValueError(f"{picture.height}x{picture.width} pixels")
            pixels = np.frombuffer(picture.tobytes(), np.uint8)
    except Image.DecompressionBombError:
        raise ValueError("many times as many pixels") from None
    expected = size[0] * size[1] * int(np.prod(trailing)) * dtype.itemsize
    if pixels.size != expected:
        raise ValueError(f"{pixels.size} bytes of pixels, not {expected}")
    return pixels.view(dtype).reshape(*size, *trailing)
