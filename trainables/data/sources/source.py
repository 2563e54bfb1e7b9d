"""Defines what `convert` and the cache need of raw data."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trainables.data.frame import Frame

SPLITS = ("train", "test")


class Source(Protocol):
    """Describes raw data that several threads can read frame by frame.

    A source may also have `notes`: sentences on what it leaves out, which `convert` shows.
    """

    @property
    def native_size(self) -> tuple[int, int]:
        """Return (height, width) of the raw frames in pixels."""
        ...

    def num_frames(self, split: str) -> int:
        """Return how many frames "train" or "test" has."""
        ...

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        """Read the frame at `size`. Raises `UserError` naming the file at fault."""
        ...


OpenSource = Callable[[Path], Source]
