"""Writes files whole or not at all."""

import os
from pathlib import Path


def write_file(path: Path, contents: bytes) -> None:
    """Write a file, complete or not at all; its folder is created if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(contents)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
