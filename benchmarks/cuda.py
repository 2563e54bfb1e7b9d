"""What only a GPU can tell: resident data beside a fixed batch, masks, peak memory.

Needs torch, NumPy and pyarrow alone, so it runs on a host without Ray, Optuna and MLflow.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import masked_step
from benchmarks.frames import random_frames
from benchmarks.measure import Measurement, Skipped, compare
from benchmarks.workload import build_workload
from trainables.data.loader import BatchSource
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_file import Split, write_split
from trainables.data.view import View

DATASET = "nyu-v2"  # segmentation and normals: the published full-size model
_NUM_FRAMES = {"tiny": 64, "small": 256, "paper": 64}


def run(quick: bool) -> Iterator[Measurement | Skipped]:
    """Yield the measurements of this part. quick: fewer repetitions."""
    if not torch.cuda.is_available():
        yield Skipped(name="cuda", reason="no CUDA device")
        return
    budget_seconds = 2.0 if quick else 12.0
    for preset in ("small", "paper"):
        for measurement in (resident_data, masks):
            try:
                yield measurement(preset, device="cuda", budget_seconds=budget_seconds)
            except torch.OutOfMemoryError as error:
                reason = f"out of memory at preset {preset}: {error}"
                yield Skipped(name=f"cuda/{measurement.__name__}/{preset}", reason=reason)
            torch.cuda.empty_cache()


def masks(preset: str, *, device: str, budget_seconds: float) -> Measurement:
    """As `masked_step`, on the device."""
    return masked_step.measure(
        preset, device=device, budget_seconds=budget_seconds, dataset=DATASET
    )


def resident_data(preset: str, *, device: str, budget_seconds: float) -> Measurement:
    """Steps fed by `BatchSource` (gather, decode, augment) beside steps on one fixed batch."""
    workload = build_workload(preset, dataset=DATASET, device=device)
    data = workload.config.data
    batch_size = workload.config.training.batch_size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.arrow"
        meta = SplitMeta(dataset="noise", size=data.size, depth_kind="metric", num_classes=40)
        write_split(path, random_frames(_NUM_FRAMES[preset], data.size), meta)
        view = View(split=Split(path), indices=np.arange(_NUM_FRAMES[preset]))
        source = BatchSource(
            view, data, tasks=data.tasks, batch_size=batch_size, seed=0, device=device
        )
        fixed = source.train_batch(0)
        step = 0

        def fed() -> None:
            nonlocal step
            step += 1
            workload.step(source.train_batch(step), masked=False)

        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        comparison = compare(
            fed,
            lambda: workload.step(fixed, masked=False),
            budget_seconds=budget_seconds,
            device=device,
        )
        source.close()
    facts = {
        "fed_images_per_second": batch_size / comparison.first_seconds,
        "fixed_images_per_second": batch_size / comparison.second_seconds,
    }
    if device == "cuda":
        facts["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return Measurement(
        name=f"cuda/resident_data/{preset}",
        statement="step with augmented resident data / step on one fixed batch",
        comparison=comparison,
        facts=facts,
    )
