"""Reading batches from the memory-mapped store beside indexing tensors held in memory.

The file has just been written, so its pages are cached: this is the price of the format, not
of the disk.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.frames import random_frames
from benchmarks.measure import Measurement, compare
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_file import Split
from trainables.data.store.split_writer import write_split

SIZE = (120, 160)
BATCH_SIZE = 16


def run(quick: bool) -> Iterator[Measurement]:
    """Yield the measurements of this part. quick: fewer repetitions."""
    yield measure(num_frames=64 if quick else 512, budget_seconds=0.5 if quick else 10.0)


def measure(*, num_frames: int, budget_seconds: float) -> Measurement:
    """Random batches of all six modalities, copied out of either home."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.arrow"
        meta = SplitMeta(dataset="noise", size=SIZE, depth_kind="metric", num_classes=40)
        write_split(path, random_frames(num_frames, SIZE), meta)
        split = Split(path)
        resident = {m: torch.from_numpy(split.column(m).copy()) for m in split.modalities}
        random = np.random.default_rng(0)

        def indices() -> np.ndarray:
            return np.sort(random.choice(num_frames, BATCH_SIZE, replace=False))

        def from_memory() -> None:
            chosen = torch.from_numpy(indices())
            for tensor in resident.values():
                tensor.index_select(0, chosen)  # much faster than tensor[chosen]

        comparison = compare(
            lambda: split.read(indices()), from_memory, budget_seconds=budget_seconds
        )
        bytes_per_batch = BATCH_SIZE * sum(t[0].nbytes for t in resident.values())
    return Measurement(
        name="store_read/cpu",
        statement="time of a batch from the store / from tensors in memory",
        comparison=comparison,
        facts={
            "store_megabytes_per_second": bytes_per_batch / 1e6 / comparison.first_seconds,
            "memory_megabytes_per_second": bytes_per_batch / 1e6 / comparison.second_seconds,
        },
    )
