"""Groups frames into scenes and splits validation off from train by whole scenes."""

from collections.abc import Sequence

import numpy as np
import torch

from trainables.errors import UserError
from trainables.seeds import generator


def scenes_of_runs(numbers: Sequence[int]) -> tuple[str, ...]:
    """Return a scene name per frame, the same for a run of consecutive frame numbers.

    numbers: ascending, of one split. NYU-v2 is ordered by scene and its official split never
    divides a scene. Frames between two runs of a split belong to the other split and therefore to
    other scenes, so a scene lies within one run (a run may hold several scenes).
    """
    scenes: list[str] = []
    for index, number in enumerate(numbers):
        follows = index > 0 and number == numbers[index - 1] + 1
        scenes.append(scenes[-1] if follows else f"run-{number:04d}")
    return tuple(scenes)


def carve_validation(
    scenes: Sequence[str], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending indices (train, validation) that share no scene.

    Whole scenes are taken in a seeded order as long as they fit in `fraction` of the frames, so
    validation has at most that share. At least one scene is taken and at least one is left.
    Raises `UserError` for fewer than two scenes.
    """
    names, inverse, counts = np.unique(np.array(scenes), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise UserError(
            "validation is carved by scene, so train must have at least 2 scenes, "
            f"got {len(names)} in {len(scenes)} frames; use more of the data (`data.num_train`)"
        )
    order = torch.randperm(len(names), generator=generator(seed, "data")).numpy()
    budget = max(1, round(fraction * len(scenes)))
    chosen: list[int] = []
    for scene in order:
        if counts[scene] <= budget:
            chosen.append(int(scene))
            budget -= int(counts[scene])
    if not chosen:
        chosen = [int(order[np.argmin(counts[order])])]
    if len(chosen) == len(names):
        chosen.pop()
    mask = np.isin(inverse, chosen)
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def spread(available: int, wanted: int | None) -> np.ndarray:
    """Return `wanted` of `available` indices, evenly spaced so that all kinds of scenes remain."""
    if wanted is None or wanted >= available:
        return np.arange(available)
    return (np.arange(wanted) * available) // wanted
