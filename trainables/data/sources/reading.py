"""Reads files of raw data into arrays; every error names the file."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from trainables.errors import UserError

# Pillow's names for one channel of 16 bits; older releases open such a PNG as 32-bit integers.
_SIXTEEN_BITS = ("I;16", "I;16B", "I")
_MISSING_SHOWN = 3


def read_image(path: Path, modes: tuple[str, ...], convert: str | None = None) -> np.ndarray:
    """Read an image as uint8 (H, W) or (H, W, channels).

    modes: the accepted modes, Pillow's names. convert: if given, any mode is accepted and converted
    to this one. Raises `UserError` for a file that is not an image, is cut short or has another
    mode.
    """
    try:
        with Image.open(path) as picture:
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
    """Read an array of real numbers from an `.npy` file; `what` is its name in messages."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, what, error) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
        raise UserError(
            f"{path} must hold one array of numbers, got {getattr(array, 'dtype', 'an archive')}; "
            "copy it again"
        )
    return array


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
