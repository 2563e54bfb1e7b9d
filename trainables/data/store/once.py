"""Refuses a frame that is in train and in test, or twice in a split, whatever it is called."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from trainables.data.frame import Frame
from trainables.data.sources.listing import in_two_splits
from trainables.errors import UserError

_EVERY = 8  # rows and columns of targets; enough to tell them apart where images are equal


class Once:
    """Compares the content of all frames of a data set.

    Two frames of two splits are one if their images are equal, to the last bit. Within a split,
    where the harm is smaller, their targets must be equal too. Images of one colour, such as black
    ones, say nothing of what they show and are passed.
    """

    def __init__(self) -> None:
        self._images: dict[bytes, tuple[str, str]] = {}  # the split and name of the first
        self._frames: dict[bytes, str] = {}  # of the split at hand

    def passed(self, split: str, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames. Raises `UserError` at one that was there before."""
        self._frames.clear()
        for frame in frames:
            if frame.image.min() != frame.image.max():
                self._require_new(split, frame)
            yield frame

    def _require_new(self, split: str, frame: Frame) -> None:
        state = hashlib.blake2b(np.ascontiguousarray(frame.image).data, digest_size=16)
        earlier, name = self._images.setdefault(state.digest(), (split, frame.name))
        if earlier != split:
            raise in_two_splits(
                f"{name!r}, {frame.name!r} in {split} (equal images)", earlier, split
            )
        for column, array in frame.arrays():
            if column != "image":
                state.update(np.ascontiguousarray(array[::_EVERY, ::_EVERY]).data)
        name = self._frames.setdefault(state.digest(), frame.name)
        if name != frame.name:
            raise UserError(
                f"a frame must be in {split} once, got {name!r} and {frame.name!r} with equal "
                "images and targets; remove one of them"
            )
