"""Tells whether a checkpoint's folder is complete, even after copying, without torch."""

import json
import zlib
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(directory: Path, *, step: int) -> None:
    """Write the manifest of a folder: its files with size and CRC-32, and the training step.

    It must be written last. Raises `OSError` if it cannot be written.
    """
    files = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            files[str(path.relative_to(directory))] = [path.stat().st_size, file_crc32(path)]
    (directory / MANIFEST).write_text(json.dumps({"step": step, "files": files}))


def valid_checkpoint(directory: Path) -> int | None:
    """Return the training step of an intact checkpoint; None for a damaged or unfinished one."""
    listed = listed_files(directory)
    try:
        if not listed or any(file_crc32(path) != crc for path, crc in listed.items()):
            return None
        return int(json.loads((directory / MANIFEST).read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def listed_files(directory: Path) -> dict[Path, int] | None:
    """Return the files of a folder with the CRC-32 that each should have, without checking it.

    Returns None if a file is missing or has another size.
    """
    try:
        listed = {}
        for name, (size, crc) in json.loads((directory / MANIFEST).read_text())["files"].items():
            path = directory / name
            if path.stat().st_size != size:
                return None
            listed[path] = int(crc)
        return listed
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def file_crc32(path: Path) -> int:
    """Return a file's CRC-32; it reads blocks, because the file may exceed the free memory."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
