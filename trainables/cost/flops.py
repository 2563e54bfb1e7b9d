"""Counts the FLOPs of one image, dense and as masked.

A multiply and an add count as two, in convolutions and linear layers (biases, normalisation and
activations are left out, as in RigL, Evci et al. 2020, appendix H). Sparse FLOPs are what hardware
that skips zeros would do: a layer's dense FLOPs times its density.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.models.base import prunable_parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardFlops:
    """Holds the dense FLOPs of one image.

    layers: by prunable parameter name, in definition order; 0 for a layer that forward never uses.
    other: FLOPs that no mask can save, such as transposed convolutions and attention products.
    """

    layers: Mapping[str, int]
    other: int

    @property
    def dense(self) -> int:
        """Return all FLOPs of a dense forward pass."""
        return sum(self.layers.values()) + self.other

    def sparse(self, densities: Mapping[str, float]) -> float:
        """Return the FLOPs with layer `name` at `densities[name]` = kept / total.

        Layers that are absent from `densities` are dense.
        """
        kept = sum(flops * densities.get(name, 1.0) for name, flops in self.layers.items())
        return kept + self.other


def forward_flops(model: nn.Module, image_size: Sequence[int]) -> ForwardFlops:
    """Count the FLOPs of one forward pass over one (3, height, width) image, with all heads.

    Shapes come from a pass on the meta device, which computes nothing and copies no weights. A
    model that cannot run there (because it creates tensors itself) does one real pass on its own
    device. The model's mode and state do not change.
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
