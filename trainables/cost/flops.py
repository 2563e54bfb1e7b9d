"""Counts the FLOPs of one image, dense and as masked.

A multiply and an add count as two, in convolutions and matrix products (biases, normalisation and
activations are left out, as in RigL, Evci et al. 2020, appendix H). Sparse FLOPs are what hardware
that skips zeros would do: a layer's dense FLOPs times its density.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.backends.mha
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from trainables.models.base import prunable_parameters
from trainables.models.copies import copy_of, draws_put_back, tensors_in, unchanged
from trainables.user_code import is_interruption


@dataclass(frozen=True, kw_only=True, slots=True)
class ForwardFlops:
    """Holds the dense FLOPs of one image.

    layers: by prunable parameter name, in definition order; 0 for a layer that forward never uses.
    other: FLOPs that no mask can save, such as products of attention and scripted parts.
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

    An operation counts for the weight that it multiplies by, whether the weight's layer or other
    code calls it (`F.conv2d`, a product, `nn.MultiheadAttention`).

    A copy runs on the meta device, which computes nothing and copies no weights. A model that
    cannot run there (because it creates tensors itself) does one real pass on its own device. The
    model does not change.
    """
    try:
        with draws_put_back(model):
            return _counted(copy_of(model, meta=True), image_size, torch.device("meta"))
    except BaseException as error:  # whatever a user's network says to tensors without values
        if is_interruption(error):
            raise
        with unchanged(model, parameters=False):
            return _counted(model, image_size, next(model.parameters()).device)


@torch.no_grad()
def _counted(model: nn.Module, image_size: Sequence[int], device: torch.device) -> ForwardFlops:
    image = torch.zeros(1, 3, *image_size, device=device)
    model.eval()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one operation hides the products in it
    try:
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _WholeNetwork()  # type: ignore[assignment]
        with warnings.catch_warnings(), counter:
            warnings.simplefilter("ignore")  # of checkpoints, say, that there is no gradient
            by_weight = _FlopsByWeight(model, counter.get_total_flops)
            with by_weight:
                model(image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    total = counter.get_total_flops()
    return ForwardFlops(layers=by_weight.layers, other=total - sum(by_weight.layers.values()))


class _WholeNetwork:
    """Tells torch's counter that all operations are of one module, which is all we ask of it.

    Its own tracker puts hooks into the graph, with which a `forward` that asks for gradients fails.
    """

    parents = frozenset({"Global"})  # the name that `get_total_flops` sums

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class _FlopsByWeight(TorchFunctionMode):
    """Counts the FLOPs of operations that one prunable weight takes part in, by its name.

    What is computed from one weight and other parameters alone, such as a view of it or a
    standardised weight, stands for the weight.
    """

    def __init__(self, model: nn.Module, total_flops: Callable[[], int]) -> None:
        super().__init__()
        self._total_flops = total_flops
        prunable = prunable_parameters(model)
        self.layers = dict.fromkeys(prunable, 0)
        # By id, with the tensor itself, so that no other tensor gets the id. "" is no weight.
        self._known: dict[int, tuple[str, Tensor]] = {
            id(tensor): ("", tensor) for tensor in (*model.parameters(), *model.buffers())
        }
        self._known |= {id(weight): (name, weight) for name, weight in prunable.items()}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the operation, and count it for its weight."""
        named = kwargs or {}
        before = self._total_flops()
        output = func(*args, **named)
        spent = self._total_flops() - before
        inputs = list(tensors_in((args, named)))
        known = [self._known.get(id(tensor), (None, tensor))[0] for tensor in inputs]
        weights = {name for name in known if name}
        if spent and func is F.multi_head_attention_forward:
            self._count_attention(output, args, named)
        elif spent and len(weights) == 1:
            self.layers[weights.pop()] += spent
        elif not spent and len(weights) == 1 and None not in known:
            name = weights.pop()
            self._known |= {id(tensor): (name, tensor) for tensor in tensors_in(output)}
        return output

    def _count_attention(self, output: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Count the last product of `nn.MultiheadAttention`, which calls everything at once."""
        bound = inspect.signature(F.multi_head_attention_forward).bind(*args, **named)
        last = bound.arguments["out_proj_weight"]
        name = self._known.get(id(last), ("", last))[0]
        if name:
            self.layers[name] += 2 * output[0].numel() * last.shape[1]
