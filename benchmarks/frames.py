"""Frames of noise for the store: real types and sizes, no dataset."""

from collections.abc import Iterator

import numpy as np

from trainables.data.frame import Frame

NUM_CLASSES = 40


def random_frames(num_frames: int, size: tuple[int, int]) -> Iterator[Frame]:
    """Frames with all five targets at (height, width), one scene each."""
    random = np.random.default_rng(0)
    for index in range(num_frames):
        normals = random.standard_normal((*size, 3), dtype=np.float32)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        yield Frame(
            name=f"{index:05d}",
            scene=f"{index:05d}",
            image=random.integers(0, 256, (*size, 3), dtype=np.uint8),
            segmentation=random.integers(0, NUM_CLASSES, size, dtype=np.uint8),
            normals=normals,
            depth=0.5 + 4 * random.random(size, dtype=np.float32),
            keypoints=random.random(size, dtype=np.float32),
            edges=random.random(size, dtype=np.float32),
        )
