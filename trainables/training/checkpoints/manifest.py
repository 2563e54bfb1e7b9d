"""Whether a checkpoint's folder is whole, however it was copied. Light: no torch."""

import json
import zlib
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(directory: Path, *, step: int) -> None:
    """List the folder's files with size and CRC-32; written last."""
    files = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            files[str(path.relative_to(directory))] = [path.stat().st_size, file_crc32(path)]
    (directory / MANIFEST).write_text(json.dumps({"step": step, "files": files}))


def valid_checkpoint(directory: Path) -> int | None:
    """The training step of an intact checkpoint; None for a damaged or unfinished one."""
    listed = listed_files(directory)
    try:
        if not listed or any(file_crc32(path) != crc for path, crc in listed.items()):
            return None
        return int(json.loads((directory / MANIFEST).read_text())["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def listed_files(directory: Path) -> dict[Path, int] | None:
    """The folder's files with the CRC-32 that each should have, which is not looked at.

    None where one is missing or of another size.
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
    """Read in blocks: a checkpoint may be larger than memory has room for twice."""
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value
