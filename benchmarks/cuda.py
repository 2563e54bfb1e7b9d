"""What only a GPU can tell: recorded steps, evaluation, updates, resident data, masks, memory.

Needs torch, NumPy and pyarrow alone, so it runs on a host without Ray, Optuna and MLflow.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import masked_step, sharing
from benchmarks.frames import DATASET, noise_trial, random_frames
from benchmarks.measure import Comparison, Measurement, Skipped, compare
from benchmarks.workload import build_workload
from trainables.data.loading.loader import BatchSource
from trainables.data.store.meta import SplitMeta
from trainables.data.store.split_file import Split
from trainables.data.store.split_writer import write_split
from trainables.data.view import View
from trainables.models.passes import predict
from trainables.sparsity.catalogue import get_method
from trainables.sparsity.gradients import task_gradients
from trainables.training.evaluation import evaluate
from trainables.training.trial import TrialRun

_NUM_FRAMES = {"tiny": 64, "small": 256, "paper": 64}
_RECORDED_AFTER = 6  # steps
_DENSITY, _DROP_FRACTION = 0.1, 0.3
AT_ONCE = (1, 2, 4, 8)

Part = Callable[..., Measurement]


def run(quick: bool) -> Iterator[Measurement | Skipped]:
    """Yield the measurements of this part. quick: fewer repetitions."""
    if not torch.cuda.is_available():
        yield Skipped(name="cuda", reason="no CUDA device")
        return
    budget_seconds = 2.0 if quick else 12.0
    parts: Sequence[Part] = (
        *(recorded_step, recorded_masks, evaluation, update),
        *(resident_data, masks),
    )
    for preset in ("small", "paper"):
        for part in parts:
            try:
                yield part(preset, device="cuda", budget_seconds=budget_seconds)
            except torch.OutOfMemoryError as error:
                reason = f"out of memory at preset {preset}: {error}"
                yield Skipped(name=f"cuda/{part.__name__}/{preset}", reason=reason)
            torch.cuda.empty_cache()
    for number in AT_ONCE:
        yield trials_at_once(number, device="cuda", steps=100 if quick else None)


def recorded_step(preset: str, *, device: str, budget_seconds: float) -> Measurement:
    """Steps of a whole trial's loop, line by line, beside the same steps as one CUDA graph."""
    with tempfile.TemporaryDirectory() as folder:
        eager = _looping(folder, preset, "random", device, "off")
        _peak_gib(device)
        held = torch.cuda.memory_allocated() / 2**30 if device == "cuda" else 0.0
        recorded = _looping(folder, preset, "random", device, "auto")
        peak = _peak_gib(device)
        comparison = compare(
            eager.loop.advance, recorded.loop.advance, budget_seconds=budget_seconds, device=device
        )
        eager.loop.source.close()
        recorded.loop.source.close()
    facts = {
        "recorded_steps_per_second": 1 / comparison.second_seconds,
        "images_per_second": recorded.config.training.batch_size / comparison.second_seconds,
        "replayed": float(recorded.loop.num_replayed),
    }
    if device == "cuda":
        facts["recorded_trial_gib"] = peak - held
    return Measurement(
        name=f"cuda/recorded_step/{preset}",
        statement="eager step / recorded step, of a whole trial's loop",
        comparison=comparison,
        facts=facts,
    )


def recorded_masks(preset: str, *, device: str, budget_seconds: float) -> Measurement:
    """What masks cost where launches cost nothing: recorded steps at 90 % beside dense ones."""
    with tempfile.TemporaryDirectory() as folder:
        masked = _looping(folder, preset, "random", device, "auto")
        dense = _looping(folder, preset, "dense", device, "auto")
        comparison = compare(
            masked.loop.advance, dense.loop.advance, budget_seconds=budget_seconds, device=device
        )
        masked.loop.source.close()
        dense.loop.source.close()
    return Measurement(
        name=f"cuda/recorded_masks/{preset}",
        statement="masked recorded step / dense recorded step",
        comparison=comparison,
        target=masked_step.TARGETS[device],
        facts={"density": masked.registry.density},
    )


def evaluation(preset: str, *, device: str, budget_seconds: float) -> Measurement:
    """A split's evaluation beside the network's forward passes over the same frames alone."""
    with tempfile.TemporaryDirectory() as folder:
        trial = _looping(folder, preset, "random", device, "off", steps=0)
        view, source = trial.dataset.test, trial.loop.source
        size = trial.config.training.evaluation_batch_size
        autocast = trial.loop.gradient_step.autocast

        def whole() -> None:
            evaluate(
                trial.model,
                trial.tasks,
                source.evaluation_batches(view, size),
                definition="corrected",
                device=device,
                autocast=autocast,
            )

        first, second = _seconds(whole, device), _seconds(whole, device)
        batches = list(source.evaluation_batches(view, size))
        trial.model.eval()

        @torch.no_grad()
        def forward() -> None:
            for batch in batches:
                with autocast():
                    predict(trial.model, batch.images_BCHW, tuple(trial.tasks))

        comparison = compare(whole, forward, budget_seconds=budget_seconds, device=device)
        source.close()
    return Measurement(
        name=f"cuda/evaluation/{preset}",
        statement="evaluation of a split / forward passes alone",
        comparison=comparison,
        facts={
            "evaluation_ms_per_image": 1e3 * comparison.first_seconds / view.num_frames,
            "forward_ms_per_image": 1e3 * comparison.second_seconds / view.num_frames,
            # With the upload of the split and cuDNN's trials of kernels.
            "first_evaluation_seconds": first,
            "second_evaluation_seconds": second,
        },
    )


def update(preset: str, *, device: str, budget_seconds: float) -> Measurement:
    """Drop and grow of dynamic DiSparse beside the passes through the network that it needs."""
    workload = build_workload(preset, method="disparse-dynamic", dataset=DATASET, device=device)
    rule, context = get_method("disparse-dynamic"), workload.context()
    workload.registry.update(rule.prune(context, _DENSITY).masks, workload.optimiser)
    workload.registry.attach(workload.optimiser)

    def whole() -> None:
        proposal = rule.regrow(context, workload.batch, _DROP_FRACTION, _DENSITY)
        workload.registry.update(proposal.masks, workload.optimiser)

    def passes() -> None:
        for _, gradients in task_gradients(context, workload.batch):
            del gradients

    comparison = compare(whole, passes, budget_seconds=budget_seconds, device=device)
    return Measurement(
        name=f"cuda/update/{preset}",
        statement="drop and grow / its forward and backward passes alone",
        comparison=comparison,
        facts={"share_without_passes": 1 - 1 / comparison.ratio},
    )


def trials_at_once(
    number: int, *, device: str, steps: int | None = None, rounds: int = 3, preset: str = "small"
) -> Measurement:
    """Whole trials in processes that share the device, beside one that has it alone.

    steps: of a trial; None for those of the preset.
    """
    with tempfile.TemporaryDirectory() as folder:
        noise_trial(Path(folder), preset, "random", _NUM_FRAMES[preset])  # writes the store
        together, alone = sharing.timed(folder, preset, number, device, steps, rounds)
    comparison = Comparison.of(together / number, alone)
    return Measurement(
        name=f"cuda/trials_at_once/{number}",
        statement="time per trial, several at once / time of a trial alone",
        comparison=comparison,
        facts={"trials_an_hour": 3600 / comparison.first_seconds},
    )


def _looping(
    folder: str, preset: str, method: str, device: str, graph: str, *, steps: int = _RECORDED_AFTER
) -> TrialRun:
    """Return a trial on noise after a few steps; a later one would be the same."""
    config = noise_trial(Path(folder), preset, method, _NUM_FRAMES[preset])
    overrides = {"training.steps": 10**6, "training.graph": graph}
    trial = TrialRun(config.replace(overrides), device=device)
    for _ in range(steps):
        trial.loop.advance()
    return trial


def _peak_gib(device: str) -> float:
    """Return the most memory since the last call, and begin to count from what is held now."""
    if device != "cuda":
        return 0.0
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return peak


def _seconds(action: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


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
