"""Reads numeric matrices from MATLAB files of version 5 (before HDF5) without SciPy.

The small files that come with NYU-v2 have this format: `splits.mat`, `classMapping40.mat`. Source:
MathWorks, "MAT-File Format", the chapter on level 5. Only real, full matrices of numbers are read,
compressed or not; other variables are skipped.

A variable is unpacked up to `LARGEST_INDEX`, which is a thousand times what those files hold.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainables.data.limits import LARGEST_INDEX
from trainables.data.sources.reading import unreadable

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_NUMERIC_CLASSES = range(6, 16)  # double, single and the integers


def read_matrices(path: Path) -> dict[str, np.ndarray]:
    """Read the numeric matrices by name, in MATLAB's shape. Raises `UserError` naming the file."""
    try:
        if path.stat().st_size > LARGEST_INDEX:
            raise ValueError(f"{path.stat().st_size} bytes, more than {LARGEST_INDEX}")
        content = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise ValueError("no MATLAB file of version 5")
        found = {}
        for kind, data in _elements(content[128:], order):
            if kind == _COMPRESSED:
                ((kind, data),) = _elements(_unpacked(data), order)
            if kind == _MATRIX and (named := _matrix(data, order)) is not None:
                found[named[0]] = named[1]
        return found
    except (OSError, ValueError, IndexError, KeyError, struct.error, zlib.error) as error:
        raise unreadable(path, "MATLAB file", error) from None


def _unpacked(data: bytes) -> bytes:
    """Return what is compressed. Raises `ValueError` if it is larger than any of these files."""
    stream = zlib.decompressobj()
    content = stream.decompress(data, LARGEST_INDEX)
    if stream.unconsumed_tail:
        raise ValueError(f"a variable that unpacks to more than {LARGEST_INDEX} bytes")
    if not stream.eof:
        raise ValueError("a file cut short")
    return content


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield (type, content) of consecutive elements."""
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, position)
        start = position + 8
        if kind >> 16:  # a small element: four bytes of content beside its tag
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
        if start + size > len(data):
            raise ValueError("a file cut short")
        yield kind, data[start : start + size]
        # Compressed elements are not padded, all others to eight bytes.
        padded = size if kind == _COMPRESSED else -(-size // 8) * 8
        position = position + 8 if start == position + 4 else start + padded


def _matrix(data: bytes, order: str) -> tuple[str, np.ndarray] | None:
    (_, flags), (_, sizes), (_, name), *content = _elements(data, order)
    kind = struct.unpack_from(f"{order}I", flags)[0]
    if kind & 0xFF not in _NUMERIC_CLASSES or kind & 0x0800:  # complex
        return None
    shape = np.frombuffer(sizes, f"{order}i4")
    stored, values = content[0] if content else (9, b"")
    array = np.frombuffer(values, order + _NUMBERS[stored])
    return name.decode("ascii"), array.reshape(tuple(shape.tolist()), order="F")
