"""Ships a trained model: compacts, exports, verifies and measures it, and writes the files."""

import contextlib
import json
import logging
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from trainables.config import DataConfig
from trainables.cost.reference import dense_reference
from trainables.data.batch import Batch
from trainables.data.catalogue import Dataset, open_dataset
from trainables.data.loading.loader import BatchSource
from trainables.errors import UserError
from trainables.models.catalogue import build_model
from trainables.shipping.card import model_card
from trainables.shipping.compact import compact, copied
from trainables.shipping.figures import figures, notes
from trainables.shipping.formats.onnx_export import (
    ExportFailed,
    Metadata,
    export_program,
    onnx_bytes,
    program_bytes,
)
from trainables.shipping.formats.packed import digest_of, packed
from trainables.shipping.latency import Latency, measure
from trainables.shipping.options import ShipOptions, check
from trainables.shipping.runtime import OnnxModel, Predict, torch_threads
from trainables.shipping.verify import Verification, verify, verify_on_random_images
from trainables.tasks.catalogue import build_tasks
from trainables.terminal.answers import write_json
from trainables.training.export import TrainedModel
from trainables.training.files import write_file
from trainables.training.watching.reports import Progress

FILES = ("model.onnx", "model.pt2", "weights.safetensors")

logger = logging.getLogger(__name__)


def ship(
    trained: TrainedModel,
    out: Path,
    options: ShipOptions,
    *,
    command: Sequence[str],
    dense: nn.Module | None = None,
    trained_by: Sequence[str] | None = None,
    by_seed: Sequence[Mapping[str, float]] = (),
    seeds_are: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the shipped model's files into `out` and return the object of `ship.json`.

    trained: on the CPU. dense: the network that sizes and time are compared with; None for that of
    the same configuration with all its weights. command: the command line that the files name.
    trained_by: the one that trained the model. by_seed: metrics of runs with other seeds, for the
    card's intervals. seeds_are: which seeds these are, in words.

    A network that an exporter cannot follow is shipped without that file: the object's "problems"
    say why, and the latency is then measured in torch. Raises `UserError` for a size, data or a
    runtime that do not fit, and `Failure` if the shipped model disagrees with the trained one; no
    file is written then. A model that `out` holds is replaced, and named if it is another one.
    """
    started = time.perf_counter()
    check(options)
    step = progress or (lambda phase, done, total: None)
    data = _data_config(trained, options)
    trained.registry.apply_to_weights()  # a model.pt of another origin may hold pruned values
    dataset = _open(data, step) if options.with_data else None
    step("compacting", 0, 1)
    small = compact(trained.model, trained.registry)
    reference = dense or build_model(
        dense_reference(trained.config.model), trained.num_channels, trained.config.seed
    )
    step("exporting", 0, 1)
    contents, problems = _exported(trained, small.model, data.size, options)
    contents["weights.safetensors"] = packed(trained)
    step("exporting", 1, 1)
    networks: dict[str, Predict] = {"compact": small.model}
    if "model.onnx" in contents:
        networks["onnxruntime"] = OnnxModel(contents["model.onnx"], threads=options.threads)
    verification = _verified(trained, networks, dataset, data, options.threads, step)
    verified_in = "ONNX Runtime" if "model.onnx" in contents else "PyTorch"
    latency, onnx_bytes_dense = _measured(
        trained, reference, small.model, contents, data.size, options, step
    )
    result = figures(trained, reference, small, data.size, verification, latency)
    result["sizes"]["onnx_bytes_dense"] = onnx_bytes_dense
    result |= {
        "command": list(command),
        "trained_by": None if trained_by is None else list(trained_by),
        "verified_in": verified_in,
        "timing": {"total_seconds": time.perf_counter() - started},
        "files": {name: len(file) for name, file in contents.items()},
        "problems": problems,
        "notes": [*problems, *notes(trained, small, verification, options)],
    }
    _say_replaced(out, contents["weights.safetensors"])
    for name in set(FILES) - contents.keys():
        (out / name).unlink(missing_ok=True)  # of another model, beside a card of this one
    for name, file in contents.items():
        write_file(out / name, file)
    write_file(out / "card.md", model_card(result, by_seed, seeds_are).encode())
    write_json(out / "ship.json", result)
    return result


def _say_replaced(out: Path, weights: bytes) -> None:
    """Warn of another model that was shipped to the same folder."""
    before = out / "weights.safetensors"
    if not before.is_file() or digest_of(before.read_bytes()) == digest_of(weights):
        return
    made = "another model"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((out / "ship.json").read_text())
        made = f"a {known['config']['method']} model, shipped by `{shlex.join(known['command'])}`"
    logger.warning("note: %s held %s; this one replaces it", out, made)


def _data_config(trained: TrainedModel, options: ShipOptions) -> DataConfig:
    data = trained.config.data
    root = options.data_root
    if root is None and data.root is not None and ("://" in data.root or Path(data.root).exists()):
        root = data.root
    return replace(data, root=root, size=options.size or data.size)


def _open(data: DataConfig, progress: Progress) -> Dataset:
    try:
        return open_dataset(
            data, lambda split, done, total: progress(f"preparing {split}", done, total)
        )
    except UserError as error:
        raise UserError(
            f"{error}. `ship` verifies on the test images: name them by `--data-root DIR`, or pass "
            "`--no-data` to compare on random images without metrics"
        ) from None


def _exported(
    trained: TrainedModel, model: nn.Module, size: tuple[int, int], options: ShipOptions
) -> tuple[dict[str, bytes], list[str]]:
    """Return the exported files' contents by name, and why others are missing."""
    tasks = tuple(trained.num_channels)
    metadata = Metadata(tasks=tasks, image_mean=trained.image_mean, image_std=trained.image_std)
    contents: dict[str, bytes] = {}
    try:
        program = export_program(model, tasks, size, dynamic_size=options.dynamic_size)
        contents["model.pt2"] = program_bytes(program)
        contents["model.onnx"] = onnx_bytes(program, metadata)
    except ExportFailed as error:
        return contents, [str(error)]
    return contents, []


def _verified(
    trained: TrainedModel,
    networks: Mapping[str, Predict],
    dataset: Dataset | None,
    data: DataConfig,
    threads: int,
    progress: Progress,
) -> Verification:
    tasks = tuple(trained.num_channels)
    with torch_threads(threads):
        if dataset is None:
            progress("verifying", 0, 1)
            return verify_on_random_images(trained.model, networks, tasks, data.size)
        return verify(
            trained.model,
            networks,
            _batches(trained, dataset, data, progress),
            build_tasks(tasks, trained.num_channels, data.dataset),
            definition=trained.config.metrics,
        )


def _batches(
    trained: TrainedModel, dataset: Dataset, data: DataConfig, progress: Progress
) -> Iterable[Batch]:
    training = trained.config.training
    source = BatchSource(
        dataset.train,
        data,
        tasks=tuple(trained.num_channels),
        batch_size=training.batch_size,
        seed=trained.config.seed,
        device="cpu",
    )
    total, done = dataset.test.num_frames, 0
    for batch in source.evaluation_batches(dataset.test, training.evaluation_batch_size):
        yield batch
        done += len(batch.images_BCHW)
        progress("verifying", done, total)


def _measured(
    trained: TrainedModel,
    dense: nn.Module,
    shipped: nn.Module,
    contents: Mapping[str, bytes],
    size: tuple[int, int],
    options: ShipOptions,
    progress: Progress,
) -> tuple[Latency, int | None]:
    """Return the time, and the bytes of the dense network's ONNX file if one was made."""
    runtime = options.runtime if "model.onnx" in contents else "torch"
    reference = copied(dense).model
    networks: dict[str, Predict]
    dense_bytes = None
    if runtime == "torch":
        networks = {"dense": reference.to(options.device), "shipped": shipped.to(options.device)}
    else:
        tasks = tuple(trained.num_channels)
        metadata = Metadata(tasks=tasks, image_mean=trained.image_mean, image_std=trained.image_std)
        program = export_program(reference, tasks, size, dynamic_size=options.dynamic_size)
        files = {"dense": onnx_bytes(program, metadata), "shipped": contents["model.onnx"]}
        dense_bytes = len(files["dense"])
        networks = {
            name: OnnxModel(file, device=options.device, threads=options.threads)
            for name, file in files.items()
        }
    latency = measure(
        networks["dense"],
        networks["shipped"],
        size,
        runtime=runtime,
        device=options.device,
        threads=options.threads,
        batch=options.batch,
        progress=progress,
    )
    shipped.cpu()
    return latency, dense_bytes
