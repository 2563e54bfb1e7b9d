"""Gathers the figures of `ship.json` and the remarks of the model card."""

from dataclasses import replace
from typing import Any

from torch import nn

from trainables.cost.cost_model import CostModel, parameters_kept
from trainables.cost.flops import forward_flops
from trainables.cost.narrower import network_of
from trainables.cost.reference import reference_of
from trainables.shipping.compact import Compact
from trainables.shipping.formats.packed import model_bytes
from trainables.shipping.latency import Latency
from trainables.shipping.options import ShipOptions
from trainables.shipping.verify import Verification
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.training.export import TrainedModel
from trainables.training.summary import versions


def figures(
    trained: TrainedModel,
    dense: nn.Module,
    small: Compact,
    size: tuple[int, int],
    verification: Verification,
    latency: Latency,
) -> dict[str, Any]:
    """Return the figures of `ship.json`, ready for JSON; metrics by their full names.

    dense: the network to compare with. size: (height, width) of an image in pixels.
    """
    registry, config = trained.registry, trained.config
    cost = CostModel(trained.model, registry, size)
    everything = replace(trained, model=dense, registry=MaskRegistry(dense))
    sizes = {
        "parameters_dense": sum(p.numel() for p in dense.parameters()),
        "parameters": small.num_parameters,
        "parameters_kept": parameters_kept(trained.model, registry),
        "flops_dense": forward_flops(dense, size).dense,
        "flops": forward_flops(small.model, size).dense,
        "flops_skipping_zeros": cost.sparse_flops(),
        "bytes_dense": model_bytes(everything),
        "bytes": model_bytes(trained),
        "folded_normalisations": small.num_folded,
    }
    # Those of the file that is used: the last network that was compared.
    last = dict(list(verification.metrics.values())[-1]) if verification.metrics else {}
    quality = {f"test/{name}": value for name, value in last.items()}
    return {
        "config": config.to_dict(),
        "seed": config.seed,
        "metrics": quality
        | latency.metrics()
        | {
            "cost/density": registry.density * _own_share(trained),
            "cost/parameters_kept": float(sizes["parameters_kept"]),
            "cost/model_bytes": float(sizes["bytes"]),
        },
        "masks": {"layers": registry.layers(), "kept": registry.kept, "total": registry.total},
        "sizes": sizes,
        "latency": latency.to_dict(),
        "verification": verification.to_dict(),
        "image_mean": list(trained.image_mean),
        "image_std": list(trained.image_std),
        "versions": _versions(),
    }


def _own_share(trained: TrainedModel) -> float:
    """Return the prunable weights of the trained network over those of its dense reference."""
    asked, channels = trained.config.model, trained.num_channels
    trained_network = network_of(trained.config, channels)
    reference = reference_of(asked, trained_network, channels, trained.config.data.size)
    return trained.registry.total / (reference.weights or trained.registry.total)


def notes(
    trained: TrainedModel, small: Compact, verification: Verification, options: ShipOptions
) -> list[str]:
    """Return what the reader of the card should know, in sentences."""
    remarks = []
    if small.unfolded_because is not None:
        remarks.append(
            "Normalisation is not folded into the convolutions of model.pt2, because "
            f"{small.unfolded_because}. ONNX Runtime folds it by itself."
        )
    if trained.registry.kept < trained.registry.total and trained.registry.units is None:
        remarks.append(
            "Its pruned weights are zeros in place: they save bytes in weights.safetensors, and no "
            "time in dense kernels."
        )
    if verification.on != "test":
        remarks.append("Outputs were compared on random images; no metric was computed.")
    if options.device == "cuda" and options.runtime == "onnxruntime":
        remarks.append("Times include copying images to the GPU and predictions back.")
    return remarks


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return versions() | {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
