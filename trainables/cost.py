"""What a sparse model costs: weights, FLOPs forward and in training, and time.

FLOPs count a multiply and an add as two, in convolutions and linear layers (biases,
normalisation and activations are left out, as in RigL, Evci et al. 2020, appendix H). Sparse
FLOPs are what hardware that skips zeros would do: a layer's dense FLOPs times its density.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.errors import UserError
from trainables.models.base import prunable_parameters
from trainables.sparsity.masks import MaskRegistry


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardFlops:
    """Dense FLOPs of one image.

    layers: by prunable parameter name, in definition order; 0 where forward never came by.
    other: what no mask can save: transposed convolutions, attention products and the like.
    """

    layers: Mapping[str, int]
    other: int

    @property
    def dense(self) -> int:
        return sum(self.layers.values()) + self.other

    def sparse(self, densities: Mapping[str, float]) -> float:
        """With layer `name` at `densities[name]` = kept / total; absent layers are dense."""
        kept = sum(flops * densities.get(name, 1.0) for name, flops in self.layers.items())
        return kept + self.other


def forward_flops(model: nn.Module, image_size: Sequence[int]) -> ForwardFlops:
    """Of one forward pass over one (3, height, width) image, all heads included.

    Shapes come from a pass on the meta device, which computes nothing and copies no weight; a
    model that cannot run there (it makes its own tensors) does one real pass where it stands.
    The model's mode and state are left as they were.
    """
    try:
        return _traced_flops(model, image_size, torch.device("meta"))
    except (RuntimeError, NotImplementedError):
        return _traced_flops(model, image_size, next(model.parameters()).device)


@torch.no_grad()
def _traced_flops(
    model: nn.Module, image_size: Sequence[int], device: torch.device
) -> ForwardFlops:
    names: dict[int, str] = {}  # tied weights count under their first name, as in the registry
    for name, weight in prunable_parameters(model).items():
        names.setdefault(id(weight), name)
    layers = dict.fromkeys(names.values(), 0)
    handles = []
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            name = names[id(module.weight)]
            channels_dim = 1 if isinstance(module, nn.Conv2d) else -1

            def count(
                module: nn.Module,
                inputs: tuple[Tensor, ...],
                output: Tensor,
                name: str = name,
                dim: int = channels_dim,
            ) -> None:
                # Every weight is used once per output position, groups included.
                positions = output.numel() // output.shape[dim]
                layers[name] += 2 * positions * module.weight.numel()  # type: ignore[operator]

            handles.append(module.register_forward_hook(count))
    tensors = {
        name: tensor.to(device)
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    image = torch.zeros(1, 3, *image_size, device=device)
    was_training = model.training
    model.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            torch.func.functional_call(model, tensors, (image,))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return ForwardFlops(
        layers=layers, other=max(0, counter.get_total_flops() - sum(layers.values()))
    )


def parameters_kept(model: nn.Module, registry: MaskRegistry) -> int:
    """All parameters but the pruned weights: biases and normalisation count as kept."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return total - (registry.total - registry.kept)


def training_flops_fraction(
    *,
    average_flops_fraction: float,
    train_steps: int,
    pretrain_steps: int = 0,
    regrow_interval_steps: int | None = None,
    scoring_steps: float = 0.0,
) -> float:
    """Training FLOPs over those of dense training for `train_steps` (RigL, appendix H).

    With f_D and f_S the dense and sparse forward FLOPs, and a backward pass at twice a forward:
    dense and pre-training steps cost 3·f_D, sparse ones 3·f_S, and regrowth every ΔT steps
    (3·f_S·ΔT + 2·f_S + f_D) / (ΔT + 1) a step, for its dense gradient. More than 1 is possible:
    pre-training is paid on top.

    average_flops_fraction: f_S / f_D, mean over the training steps.
    scoring_steps: of dense saliency, in dense training steps; a batch that goes forward once
      and backward for each of T tasks is (1 + 2·T) / 3 of one.
    """
    if train_steps < 1:
        raise UserError(f"`train_steps` must be at least 1, got {train_steps}; train longer")
    step = 3 * average_flops_fraction
    if regrow_interval_steps is not None:
        interval = regrow_interval_steps
        step = (step * interval + 2 * average_flops_fraction + 1) / (interval + 1)
    return (train_steps * step / 3 + pretrain_steps + scoring_steps) / train_steps


def measure_latency_ms(model: nn.Module, image_size: Sequence[int], *, repeats: int = 20) -> float:
    """Median wall-clock time of one image's forward pass, where and as the model stands.

    Dense kernels: zeros save no time here. The mode is left as it was.
    """
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, *image_size, device=device)
    was_training = model.training
    model.eval()
    durations = []
    try:
        with torch.inference_mode():
            for _ in range(3 + repeats):  # the first three warm up
                start = time.perf_counter()
                model(image)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                durations.append(time.perf_counter() - start)
    finally:
        model.train(was_training)
    return 1e3 * statistics.median(durations[3:])


class CostModel:
    """The `cost/*` metrics of one trial. Dense FLOPs are traced once; a mask's cost is a sum.

    image_size: (height, width) of one image as evaluated.
    """

    def __init__(self, model: nn.Module, registry: MaskRegistry, image_size: Sequence[int]) -> None:
        self._model = model
        self._registry = registry
        self._image_size = tuple(image_size)
        self.flops = forward_flops(model, image_size)

    def flops_fraction(self) -> float:
        """Sparse / dense forward FLOPs under the present masks."""
        densities = {
            name: int(layer["kept"]) / int(layer["total"])
            for name, layer in self._registry.layers().items()
        }
        return self.flops.sparse(densities) / self.flops.dense

    def metrics(
        self,
        *,
        average_training_density: float,
        train_steps: int,
        pretrain_steps: int = 0,
        regrow_interval_steps: int | None = None,
        scoring_steps: float = 0.0,
        average_flops_fraction: float | None = None,
        latency: bool = False,
    ) -> dict[str, float]:
        """Under the names of `trainables.report`; `cost/latency_ms` only when asked for.

        average_flops_fraction: mean of `flops_fraction()` over the training steps. Without it, it
          is interpolated between dense and the present masks by the average density: exact
          when training knew only those two states (static, one-shot, regrowth), an estimate
          for gradual schedules.
        The other arguments are those of `training_flops_fraction`.
        """
        density = self._registry.density
        fraction = self.flops_fraction()
        if average_flops_fraction is None:
            average_flops_fraction = _interpolated(average_training_density, density, fraction)
        metrics = {
            "cost/density": density,
            "cost/sparsity": 1 - density,
            "cost/parameters_kept": float(parameters_kept(self._model, self._registry)),
            "cost/flops_fraction": fraction,
            "cost/train_flops_fraction": training_flops_fraction(
                average_flops_fraction=average_flops_fraction,
                train_steps=train_steps,
                pretrain_steps=pretrain_steps,
                regrow_interval_steps=regrow_interval_steps,
                scoring_steps=scoring_steps,
            ),
            "cost/average_training_density": average_training_density,
        }
        if latency:
            metrics["cost/latency_ms"] = measure_latency_ms(self._model, self._image_size)
        return metrics


def _interpolated(average_density: float, density: float, fraction: float) -> float:
    """FLOPs fraction on the line through (density, fraction) and (1, 1)."""
    if density >= 1:
        return fraction
    dense_share = (average_density - density) / (1 - density)
    return fraction + dense_share * (1 - fraction)
