"""Reads pictures of any size, upright and as the 8-bit RGB that networks are trained on."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from trainables.errors import UserError, in_a_line

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = (None, 1)
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_TO_EIGHT_BITS = 257  # 65535 / 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """Holds a picture. pixels: uint8 (H, W, 3), RGB. notes: what was changed to make it so."""

    path: Path
    pixels: NDArray[np.uint8]
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def read_picture(path: Path) -> Picture:
    """Read a picture in any format of Pillow's; of several frames the first.

    It is turned upright as its EXIF orientation says. Grey becomes equal red, green and blue, 16
    bits become 8, and transparent pixels are laid on white; the notes say so.
    Raises `UserError` with the reason alone for a file that is missing or no such picture.
    """
    if path.is_dir():
        raise UserError("a folder; name its files")
    try:
        # Pillow warns of files that are large enough to be an attack; what it refuses, it raises.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                opened.load()
                return _upright_rgb(path, opened)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError("no such file") from None
    except Image.UnidentifiedImageError:
        raise UserError("not a picture that Pillow can read") from None
    except OSError as error:
        raise UserError(error.strerror or in_a_line(error)) from None
    except Exception as error:  # readers of damaged files raise many kinds
        raise UserError(f"damaged or too large: {in_a_line(error)}") from None


def _upright_rgb(path: Path, opened: Image.Image) -> Picture:
    notes = []
    image = opened
    if opened.getexif().get(_EXIF_ORIENTATION) not in _UPRIGHT:
        image = ImageOps.exif_transpose(opened)
        notes.append("turned upright by its EXIF orientation")
    if image.mode in _SIXTEEN_BITS:
        deep = np.asarray(image).astype(np.int64)
        # Some writers keep 8-bit values in a wider type.
        scale = _TO_EIGHT_BITS if deep.max(initial=0) > 255 else 1
        image = Image.fromarray(np.clip(np.rint(deep / scale), 0, 255).astype(np.uint8))
        notes.append("16-bit grey scaled to 8 bits" if scale > 1 else "grey taken as RGB")
    elif image.mode == "F":
        raise UserError("values in floating point; save it with 8 or 16 bits a channel")
    elif image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.new("RGBA", layered.size, "white")
        image.alpha_composite(layered)
        notes.append("transparent pixels laid on white")
    elif image.mode in ("L", "1"):
        notes.append("grey taken as RGB")
    elif image.mode != "RGB":
        notes.append(f"{image.mode} converted to RGB")
    pixels = np.asarray(image.convert("RGB"))
    return Picture(path=path, pixels=pixels, notes=tuple(notes))
