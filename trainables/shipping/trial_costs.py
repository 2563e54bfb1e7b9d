"""Measures what a model would cost as shipped, for the end of a trial."""

import functools
from collections.abc import Mapping

from torch import nn

from trainables.config import ModelConfig, TrialConfig
from trainables.cost.reference import dense_reference
from trainables.models.catalogue import build_model
from trainables.shipping.compact import compact, copied
from trainables.shipping.formats.onnx_export import Metadata, export_program, onnx_bytes
from trainables.shipping.formats.packages import require_packages
from trainables.shipping.formats.packed import model_bytes
from trainables.shipping.latency import measure
from trainables.shipping.runtime import OnnxModel, Predict, require_runtime
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.training.deployment import DeploymentCosts
from trainables.training.export import TrainedModel

# The same for every trial, so that sizes can be compared; the data set's own change few bytes.
_STATISTICS = (0.5, 0.5, 0.5)


def deployment_costs(config: TrialConfig) -> DeploymentCosts | None:
    """Return what measures a trial's model as its `deployment` says; None if it asks for nothing.

    Raises `UserError` for a runtime that is not installed or without the device.
    """
    wanted = config.deployment
    if not wanted.measure:
        return None
    require_packages()
    require_runtime(wanted.runtime, wanted.device, wanted.threads)
    return functools.partial(
        costs_as_shipped, runtime=wanted.runtime, device=wanted.device, threads=wanted.threads
    )


def costs_as_shipped(
    model: nn.Module,
    registry: MaskRegistry,
    config: TrialConfig,
    num_channels: Mapping[str, int],
    *,
    runtime: str = "onnxruntime",
    device: str = "cpu",
    threads: int = 1,
    repeats: int = 30,
    max_seconds: float = 20.0,
    dense: nn.Module | None = None,
) -> dict[str, float]:
    """Return `cost/latency_ms`, `…_fraction`, `…_spread` and `cost/model_bytes`; lower is better.

    The model is compacted and exported as `ship` does it and timed on one image of `data.size`,
    beside the dense network, prepared in the same way. `model` itself does not change.

    num_channels: channels of each task's prediction. repeats: pairs of passes; fewer after
    `max_seconds`. dense: the network that `cost/latency_fraction` is relative to; None for the
    dense one that all costs of `config.model` are relative to (`trainables.cost.reference`), whose
    export is kept for the next trial in this process. `cost/model_bytes` is that of
    weights.safetensors to about 100 bytes, because the data set's image statistics are not known
    here.

    Raises `UserError` for a runtime that is unknown, not installed or without the device, and
    `Failure` for a model that ONNX cannot express: then runtime "torch" still works.
    """
    require_runtime(runtime, device, threads)
    trained = TrainedModel(
        model=model,
        registry=registry,
        config=config,
        num_channels=num_channels,
        image_mean=_STATISTICS,
        image_std=_STATISTICS,
    )
    size = config.data.size
    shipped = compact(model, registry).model
    networks: dict[str, Predict]
    if runtime == "torch":
        reference = dense or build_model(dense_reference(config.model), num_channels, config.seed)
        networks = {
            "dense": copied(reference).model.to(device),
            "shipped": shipped.to(device),
        }
    else:
        exported = (
            _dense_onnx(dense_reference(config.model), tuple(num_channels.items()), size)
            if dense is None
            else _onnx(copied(dense).model, tuple(num_channels), size)
        )
        networks = {
            "dense": OnnxModel(exported, device=device, threads=threads),
            "shipped": OnnxModel(
                _onnx(shipped, tuple(num_channels), size), device=device, threads=threads
            ),
        }
    latency = measure(
        networks["dense"],
        networks["shipped"],
        size,
        runtime=runtime,
        device=device,
        threads=threads,
        repeats=repeats,
        max_seconds=max_seconds,
    )
    return latency.metrics() | {"cost/model_bytes": float(model_bytes(trained))}


@functools.lru_cache(maxsize=1)  # a study has one network, or few
def _dense_onnx(
    config: ModelConfig, num_channels: tuple[tuple[str, int], ...], size: tuple[int, int]
) -> bytes:
    dense = copied(build_model(config, dict(num_channels), seed=0)).model
    return _onnx(dense, tuple(task for task, _ in num_channels), size)


def _onnx(model: nn.Module, tasks: tuple[str, ...], size: tuple[int, int]) -> bytes:
    metadata = Metadata(tasks=tasks, image_mean=_STATISTICS, image_std=_STATISTICS)
    return onnx_bytes(export_program(model, tasks, size), metadata)
