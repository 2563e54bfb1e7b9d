"""A part of a split: what training, validation and test are made of."""

from dataclasses import dataclass

import numpy as np

from trainables.data.store.split_file import Split


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class View:
    """Frames of `split` at `indices` (int64, ascending), without a copy of the data."""

    split: Split
    indices: np.ndarray

    @property
    def num_frames(self) -> int:
        """How many frames it has."""
        return len(self.indices)

    @property
    def frames(self) -> tuple[str, ...]:
        """Names, in order."""
        return tuple(self.split.frames[i] for i in self.indices.tolist())

    @property
    def scenes(self) -> tuple[str, ...]:
        """Each frame's scene, in order."""
        return tuple(self.split.scenes[i] for i in self.indices.tolist())

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that are stored."""
        return tuple(m for m in self.split.modalities if m != "image")
