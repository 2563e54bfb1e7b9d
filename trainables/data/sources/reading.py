"""Reads files of raw data into arrays; every error names the file.

The size that a file declares is compared with a limit, and with the file's length, before memory is
taken for it: a few kilobytes may claim to be, or unpack to, hundreds of gigabytes.
"""

import json
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from trainables.data.limits import LARGEST_FRAME, LARGEST_INDEX
from trainables.errors import UserError

# Pillow's names for one channel of 16 bits; older releases open such a PNG as 32-bit integers.
_SIXTEEN_BITS = ("I;16", "I;16B", "I")
# Pillow opens many more; some of them run other programs (EPS).
_FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
_MISSING_SHOWN = 3
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}

# Pillow warns of some of what is refused below.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(path: Path, modes: tuple[str, ...], convert: str | None = None) -> np.ndarray:
    """Read an image as uint8 (H, W) or (H, W, channels).

    modes: the accepted modes, Pillow's names. convert: if given, any mode is accepted and converted
    to this one. Raises `UserError` for a file that is not an image, is cut short, has another mode
    or more than `LARGEST_FRAME` pixels.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if picture.width * picture.height > LARGEST_FRAME:
                raise _too_large(path, f"{picture.height}x{picture.width}")
            picture.load()
            if convert is not None:
                return np.asarray(picture.convert(convert))
            if picture.mode not in modes:
                raise UserError(
                    f"{path} must be an image of mode {' or '.join(modes)}, got {picture.mode!r}; "
                    "export it as the layout says"
                )
            return np.asarray(picture)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(path, "several times as many") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise unreadable(path, "image", error) from None


def read_sixteen_bits(path: Path) -> np.ndarray:
    """Read uint16 (H, W) from a one-channel PNG. Raises `UserError` for one of 8 bits."""
    values = read_image(path, _SIXTEEN_BITS)
    if values.size and not (values.min() >= 0 and values.max() <= np.iinfo(np.uint16).max):
        raise UserError(
            f"{path} must hold values of 16 bits, got {values.min()} to {values.max()}; "
            "export it as a PNG of 16 bits"
        )
    return values.astype(np.uint16)


def read_array(path: Path, what: str) -> np.ndarray:
    """Read an array of real numbers from an `.npy` file; `what` is its name in messages.

    Raises `UserError` for another file, for objects, and for a shape that the file does not hold or
    that is larger than four channels of `LARGEST_FRAME` pixels.
    """
    try:
        with open(path, "rb") as handle:
            return _read_numbers(handle, path, path.stat().st_size)
    except UserError:
        raise
    except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
        raise unreadable(path, what, error) from None


def read_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read arrays of real numbers by name from an `.npz` file; errors as in `read_array`."""
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in names:
                member = archive.getinfo(f"{name}.npy")
                with archive.open(member) as handle:
                    found[name] = _read_numbers(handle, path, member.file_size)
    except UserError:
        raise
    except (
        *(OSError, ValueError, EOFError, OverflowError, MemoryError, KeyError, RuntimeError),
        *(zipfile.BadZipFile, zlib.error),
    ) as error:
        raise unreadable(path, f"archive of the arrays {', '.join(names)}", error) from None
    return found


def _read_numbers(handle: IO[bytes], path: Path, length: int) -> np.ndarray:
    """Read one array from a file of `length` bytes, which declares its own shape and type."""
    version = np.lib.format.read_magic(handle)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    shape, by_column, dtype = _HEADERS[version](handle)
    if dtype.kind not in "iuf":
        raise UserError(f"{path} must hold one array of numbers, got {dtype}; copy it again")
    if min(shape, default=0) < 0 or math.prod(shape) > 4 * LARGEST_FRAME:
        raise _too_large(path, f"the shape {shape}")
    size = math.prod(shape) * dtype.itemsize
    if size > length - handle.tell():
        raise ValueError(f"{length - handle.tell()} bytes of the {size} that {shape} takes")
    content = handle.read(size)
    if len(content) != size:
        raise ValueError(f"{len(content)} bytes of the {size} that {shape} takes")
    array = np.frombuffer(bytearray(content), dtype) if size else np.empty(0, dtype)
    return array.reshape(shape, order="F" if by_column else "C")


def read_json(path: Path) -> Any:
    """Read a file of JSON. Raises `OSError`, or `ValueError` for one that is damaged or huge."""
    length = path.stat().st_size
    if length > LARGEST_INDEX:
        raise ValueError(f"{length} bytes, more than {LARGEST_INDEX}")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("lists within lists without end") from None


def require_image_size(
    image: np.ndarray, image_path: Path, others: Mapping[Path, np.ndarray]
) -> None:
    """Raise `UserError` naming the first of `others` whose size differs from the image's."""
    for path, array in others.items():
        if array.shape[:2] != image.shape[:2]:
            raise UserError(
                f"{path} must have the size of its image {image_path}, "
                f"{image.shape[0]}x{image.shape[1]}, got {array.shape[0]}x{array.shape[1]} "
                "(height x width); export it at the image's size"
            )


def require_files(paths: Iterable[Path], rule: str, remedy: str) -> None:
    """Raise `UserError` naming the first few missing `paths` and how many are missing.

    rule: what must hold, e.g. "every image must have its disparity".
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        shown = ", ".join(str(path) for path in missing[:_MISSING_SHOWN])
        more = f" and {len(missing) - _MISSING_SHOWN} more" if len(missing) > _MISSING_SHOWN else ""
        raise UserError(f"{rule}, got no file {shown}{more}; {remedy}")


def unreadable(path: Path, kind: str, error: Exception) -> UserError:
    """Return the error for a file that is damaged or of another kind."""
    return UserError(f"{path} must be a readable {kind}, got {error}; copy it again")


def _too_large(path: Path, got: str) -> UserError:
    return UserError(
        f"{path} must have at most {LARGEST_FRAME} pixels, got {got}; export it smaller"
    )
