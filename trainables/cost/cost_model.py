"""Computes what a sparse model costs: weights, FLOPs forward and in training, and time.

Fractions are relative to the dense network's FLOPs. The multitask baselines with their own
networks (cross-stitch and others) are measured against hard parameter sharing of the same sizes
(`trainables.cost.reference`), so that all systems can be compared on one axis.
"""

import math
import statistics
import time
from collections.abc import Sequence

import torch
from torch import nn

from trainables.cost.flops import forward_flops
from trainables.cost.reference import Reference
from trainables.errors import UserError
from trainables.models.copies import unchanged
from trainables.sparsity.masking.masks import MaskRegistry


def parameters_kept(model: nn.Module, registry: MaskRegistry) -> int:
    """Return how many parameters are not pruned.

    Biases and normalisation are pruned with whole channels only.
    """
    total = sum(parameter.numel() for parameter in model.parameters())
    return total - (registry.total - registry.kept) - registry.pruned_companions


def regrowth_step_flops(
    flops_fraction: float, num_backward: int = 1, *, at_dense: bool = False
) -> float:
    """Return the FLOPs of a drop-and-grow step, as a fraction of a dense training step.

    With f_D and f_S the dense and sparse forward FLOPs: a sparse forward pass, and for each
    backward pass f_S for the activations and f_D for the dense gradient of the weights; together
    2·f_S + f_D over 3·f_D in RigL (Evci et al. 2020, appendix H). DiSparse dynamic goes backward
    once for each task. at_dense: all of it is at dense weights (`regrowth.gradient_at`), so that
    every f_S is f_D.
    """
    if at_dense:
        flops_fraction = 1.0
    return (flops_fraction + num_backward * (flops_fraction + 1)) / 3


def training_flops_fraction(
    *,
    average_step_flops: float,
    train_steps: int,
    pretrain_steps: int = 0,
    scoring_steps: float = 0.0,
    reference_steps: int | None = None,
) -> float:
    """Return training FLOPs over those of dense training for `reference_steps`.

    The definition is that of RigL (Evci et al. 2020, appendix H). More than 1 is possible:
    pre-training is dense and is added to `train_steps`. Raises `UserError` if it is below 1.

    reference_steps: by default `train_steps`. If systems divide a total number of steps between
      pre-training and training, it is that total, the same for all.

    average_step_flops: FLOPs of a training step over those of a dense one, mean over the steps:
      f_S / f_D for a gradient step (a backward pass costs two forward passes),
      `regrowth_step_flops` for the others.
    scoring_steps: cost of dense saliency, in dense training steps. One forward pass of a batch
      and a backward pass for each of T tasks count as (1 + 2·T) / 3 steps.
    """
    if train_steps < 1:
        raise UserError(f"`train_steps` must be at least 1, got {train_steps}; train longer")
    spent = average_step_flops * train_steps + pretrain_steps + scoring_steps
    return spent / (train_steps if reference_steps is None else reference_steps)


def measure_latency_ms(model: nn.Module, image_size: Sequence[int], *, repeats: int = 20) -> float:
    """Measure the median milliseconds of one image's forward pass, on the model's device.

    The kernels are dense, so zeros save no time. The model does not change.
    """
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, *image_size, device=device)
    durations = []
    with unchanged(model, parameters=False), torch.inference_mode():
        model.eval()
        for _ in range(3 + repeats):  # the first three warm up
            start = time.perf_counter()
            model(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            durations.append(time.perf_counter() - start)
    return 1e3 * statistics.median(durations[3:])


class CostModel:
    """Computes the `cost/*` metrics of one trial; dense FLOPs are traced only once.

    image_size: (height, width) of one image as evaluated.
    reference: the dense network that fractions are relative to; None for the model itself. See
      `trainables.cost.reference`.
    """

    def __init__(
        self,
        model: nn.Module,
        registry: MaskRegistry,
        image_size: Sequence[int],
        *,
        reference: Reference | None = None,
    ) -> None:
        self._model = model
        self._registry = registry
        self._image_size = tuple(image_size)
        self.flops = forward_flops(model, image_size)
        reference = reference or Reference()
        self._own_per_reference = self.flops.dense / (reference.flops or self.flops.dense)
        self._own_weights = registry.total / (reference.weights or registry.total)

    def flops_fraction(self) -> float:
        """Return sparse over dense forward FLOPs under the current masks, at most 1."""
        return self.sparse_flops() / self.flops.dense

    def sparse_flops(self) -> int:
        """Return the FLOPs of one image under the current masks."""
        dense = sum(n for name, n in self.flops.layers.items() if name not in self._registry.names)
        pruned = sum(layer["sparse_flops"] for layer in self.layers().values())
        return pruned + dense + self.flops.other

    def layers(self) -> dict[str, dict[str, int]]:
        """Return `{name: {"flops": dense, "sparse_flops": under the current masks}}` of one image.

        Layers that are left out of pruning are not among them. The numbers are whole: every weight
        of a layer is used at equally many positions, unless `forward` uses a part of it alone.
        """
        kept, shapes = self._registry.kept_by_layer, self._registry.shapes
        flops = {name: self.flops.layers[name] for name in self._registry.names}
        return {
            name: {"flops": dense, "sparse_flops": dense * kept[name] // math.prod(shapes[name])}
            for name, dense in flops.items()
        }

    def metrics(
        self,
        *,
        average_training_density: float,
        average_step_flops: float,
        train_steps: int,
        pretrain_steps: int = 0,
        scoring_steps: float = 0.0,
        reference_steps: int | None = None,
        latency: bool = False,
    ) -> dict[str, float]:
        """Return the metrics by the names of `trainables.report`.

        latency: adds `cost/latency_ms`, which is a measurement and differs from run to run.

        The other arguments are those of `training_flops_fraction`, relative to this model; they
        are converted to the reference.
        """
        density = self._own_weights * self._registry.density
        metrics = {
            "cost/density": density,
            "cost/sparsity": 1 - density,
            "cost/parameters_kept": float(parameters_kept(self._model, self._registry)),
            "cost/flops_fraction": self._own_per_reference * self.flops_fraction(),
            "cost/train_flops_fraction": self._own_per_reference
            * training_flops_fraction(
                average_step_flops=average_step_flops,
                train_steps=train_steps,
                pretrain_steps=pretrain_steps,
                scoring_steps=scoring_steps,
                reference_steps=reference_steps,
            ),
            "cost/average_training_density": self._own_weights * average_training_density,
        }
        if latency:
            metrics["cost/latency_ms"] = measure_latency_ms(self._model, self._image_size)
        return metrics
