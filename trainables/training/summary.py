"""Summarises a finished trial as the JSON object in `--json` and `summary.json`."""

import math
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch
from torch import nn

import trainables
from trainables.config import TrialConfig
from trainables.cost.cost_model import CostModel
from trainables.errors import Failure
from trainables.report import SPLITS
from trainables.sparsity.agreement import Ballots, agreement
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.masking.prunable import what_is_corrected, what_stays_dense
from trainables.sparsity.structures.structure import Structure


def summarise(
    command: Sequence[str],
    config: TrialConfig,
    metrics: Mapping[str, float],
    registry: MaskRegistry,
    cost: CostModel,
    ballots: Ballots,
    left_dense: Mapping[str, str],
    timing: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the object of `--json`; `masks.agreement` is in it only if tasks voted.

    metrics: those of the final report. ballots: how tasks voted; empty if they did not.
    left_dense: layers that could be pruned and are not, each with the reason.
    timing: seconds and the device, as in `TrialRun.summary`.
    """
    flops = cost.layers()
    masks: dict[str, Any] = {
        "layers": {name: {**layer, **flops[name]} for name, layer in registry.layers().items()},
        "kept": registry.kept,
        "total": registry.total,
        "flops": cost.flops.dense,
        "sparse_flops": cost.sparse_flops(),
        "left_dense": dict(left_dense),
    }
    if ballots:
        masks["agreement"] = agreement(ballots)
    return {
        "command": list(command),
        "config": config.to_dict(),
        "seed": config.seed,
        "metrics": dict(metrics),
        "masks": masks,
        "timing": dict(timing),
        "versions": versions(),
    }


def require_numbers(metrics: Mapping[str, float]) -> None:
    """Raise `Failure` naming the tasks' metrics, if any, that are not finite numbers."""
    splits = tuple(f"{split}/" for split in SPLITS)
    wrong = [n for n, v in metrics.items() if n.startswith(splits) and not math.isfinite(v)]
    if wrong:
        raise Failure(
            f"every metric must be a number, got {metrics[wrong[0]]} for {', '.join(wrong)}; "
            "everything else is kept, but do not compare this run in them"
        )


def versions() -> dict[str, str]:
    """Return the versions of this project and of what computes its results."""
    return {
        "disparse-search": trainables.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def collapsed_layers(layers: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence that names the layers without any weight left; '' where there is none.

    layers: `kept` and `total` by name, as `MaskRegistry.layers` gives them.
    """
    empty = [name for name, layer in layers.items() if layer["total"] and not layer["kept"]]
    if not empty:
        return ""
    what = "layer has" if len(empty) == 1 else "layers have"
    its = "its output is" if len(empty) == 1 else "their outputs are"
    return (
        f"{len(empty)} {what} no weight left ({', '.join(empty)}): {its} constant, so what "
        "depends on nothing else is cut off from the image; lower sparsity.target, or use a "
        "method with sparsity.allocation=erk"
    )


def warn_of_collapse(layers: Mapping[str, Mapping[str, Any]], step: int, before: str) -> str:
    """Say in the terminal that layers lost all of their weights; return what was said of them.

    before: what was said last: it is not said twice.
    """
    said = collapsed_layers(layers)
    if said and said != before:
        print(f"warning: at step {step}, {said}", file=sys.stderr, flush=True)
    return said


def dense_notes(model: nn.Module, registry: MaskRegistry, structure: Structure) -> list[str]:
    """Return what a user should know of a trial's network: what is never pruned, and why."""
    found = [what_stays_dense(model, registry.prunable), what_is_corrected(registry.prunable)]
    found += [f"{name} stays dense: {why}" for name, why in structure.left_dense.items()]
    return [note for note in found if note]


def few_frames(config: TrialConfig, num_frames: int) -> str:
    """Return a sentence where a batch is larger than the frames to train on; '' otherwise."""
    size = config.training.batch_size
    if size <= num_frames:
        return ""
    return (
        f"training.batch_size is {size}, but there are {num_frames} frames to train on, so a batch "
        "holds frames more than once, each cut out anew; lower it for batches of different frames"
    )


def unscored(registry: MaskRegistry) -> str:
    """Return a sentence on the weights whose scores were zero for want of a gradient, or ''."""
    names = [name for name in registry.names if name in registry.scored - registry.reached]
    if not names:
        return ""
    return (
        f"no gradient came to {', '.join(names)} when weights were scored, so each counted as "
        "worth nothing"
    )


def coarse_blocks(config: TrialConfig, registry: MaskRegistry, flops_fraction: float) -> str:
    """Return a sentence where blocks of channels leave far less than was asked; '' otherwise."""
    units, asked = registry.units, 1 - config.sparsity.target
    if units is None:
        return ""
    kept = units.kept(registry.keep())
    whole = units.num_parameters(torch.ones_like(kept))
    in_flops = config.sparsity.counts == "flops"
    share = flops_fraction if in_flops else units.num_parameters(kept) / whole
    if share > 0.95 * asked:
        return ""
    return (
        f"{share:.1%} of the {config.sparsity.counts} are left, where {asked:.1%} were asked for: "
        f"channels come in blocks of {config.sparsity.round_to}; lower sparsity.round_to"
    )
