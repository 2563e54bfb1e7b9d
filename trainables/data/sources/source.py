"""What `convert` and the cache need of a data set's raw form."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from trainables.data.frame import Frame

SPLITS = ("train", "test")


class Source(Protocol):
    """Raw data that can be read frame by frame, from several threads.

    A source may also have `notes`: sentences on what it leaves out, which `convert` shows.
    """

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) of the raw frames."""
        ...

    def num_frames(self, split: str) -> int:
        """Of "train" or "test"."""
        ...

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        """The frame at `size`. Raises `UserError` naming the file at fault."""
        ...


OpenSource = Callable[[Path], Source]
