"""Defines the part of a split that training, validation or test uses."""

from dataclasses import dataclass

import numpy as np

from trainables.data.store.split_file import Split


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """Holds the frames of `split` at `indices` (int64, ascending), without copying data."""

    split: Split
    indices: np.ndarray

    @property
    def num_frames(self) -> int:
        """Return the number of frames."""
        return len(self.indices)

    @property
    def frames(self) -> tuple[str, ...]:
        """Return the frames' names, in order."""
        return tuple(self.split.frames[i] for i in self.indices.tolist())

    @property
    def scenes(self) -> tuple[str, ...]:
        """Return each frame's scene, in order."""
        return tuple(self.split.scenes[i] for i in self.indices.tolist())

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the names of the stored targets."""
        return tuple(m for m in self.split.modalities if m != "image")
