"""Offers the procedural scenes as a source of frames."""

from dataclasses import dataclass

from trainables.data.frame import Frame
from trainables.data.scenes.scenes import VIEWS_PER_SCENE, render_scenes

SCENES_SEED = 0  # of the rooms; a trial's seed never changes the data
_FIRST_TEST_SCENE = 1_000_000  # test rooms do not depend on the number of train frames


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenesSource:
    """Renders the procedural frames; rooms of train and test are disjoint."""

    counts: dict[str, int]
    native_size: tuple[int, int] = (120, 160)

    def num_frames(self, split: str) -> int:
        """Return how many frames "train" or "test" has."""
        return self.counts[split]

    def load(self, split: str, position: int, size: tuple[int, int]) -> Frame:
        """Render one frame at `size` (height, width)."""
        first = 0 if split == "train" else _FIRST_TEST_SCENE * VIEWS_PER_SCENE
        return next(iter(render_scenes(SCENES_SEED, [first + position], size)))


def generate(num_train: int, num_test: int) -> ScenesSource:
    """Return the source of so many frames."""
    return ScenesSource(counts={"train": num_train, "test": num_test})
