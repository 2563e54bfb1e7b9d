"""Makes the network to ship: without pruned channels, with normalisation in the convolutions.

Shape suffixes: B batch, C channels, H height, W width.
"""

import copy
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainables.errors import in_a_line
from trainables.models.copies import copy_of, unchanged
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.compaction import compacted

_NORMALISATIONS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compact:
    """Holds the network to ship, in evaluation mode on the CPU.

    model: an ordinary module with the interface of the trained one.
    num_parameters: how many it has without its pruned channels, before folding.
    num_folded: how many normalisation layers are now part of a convolution.
    unfolded_because: why none could be folded; None if the network could be traced.
    """

    model: nn.Module
    num_parameters: int
    num_folded: int
    unfolded_because: str | None


def compact(model: nn.Module, registry: MaskRegistry) -> Compact:
    """Return a copy of a masked model that computes the same in evaluation mode.

    Pruned channels are taken out. Masks of single weights and N:M masks leave nothing to take
    out: their zeros stay in place. `model` itself does not change.
    """
    smaller = compacted(model, registry)
    # Training may have left it in channels-last; exporters and packed files are row-major.
    smaller = smaller.cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return fold_normalisation(smaller.eval().requires_grad_(False))


def copied(model: nn.Module) -> Compact:
    """Return a network prepared as `compact` does it, but with all of its channels."""
    own = copy_of(model).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return fold_normalisation(own.eval().requires_grad_(False))


def fold_normalisation(model: nn.Module) -> Compact:
    """Fold batch normalisation into the convolution before it, in place.

    torch.fx finds the pairs: a normalisation that reads a convolution's output, which nothing else
    reads, both called once. The convolution gets the product of both and the normalisation becomes
    `nn.Identity`, so the network keeps its class and its forward. A network that torch.fx cannot
    trace stays as it is.
    """
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    try:
        with unchanged(model, parameters=False):  # attributes would keep what is traced
            graph = fx.symbolic_trace(model, concrete_args={"tasks": None}).graph
    except Exception as error:  # whatever the network's forward raises on a proxy
        reason = f"torch.fx cannot trace {type(model).__name__} ({in_a_line(error)})"
        return Compact(
            model=model, num_parameters=num_parameters, num_folded=0, unfolded_because=reason
        )
    pairs = _pairs(model, graph)
    for convolution, normalisation in pairs:
        model.set_submodule(convolution, _folded(model, convolution, normalisation))
        model.set_submodule(normalisation, nn.Identity())
    return Compact(
        model=model,
        num_parameters=num_parameters,
        num_folded=len(pairs),
        unfolded_because=None,
    )


def _pairs(model: nn.Module, graph: fx.Graph) -> list[tuple[str, str]]:
    """Return the names of the convolutions and of the normalisations that can join them."""
    nodes = list(graph.nodes)
    calls = Counter(
        id(model.get_submodule(str(node.target))) for node in nodes if node.op == "call_module"
    )
    # A weight that forward reads by itself, or that two layers share, must stay what it is.
    read = {str(node.target) for node in nodes if node.op == "get_attr"}
    owners = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    pairs = []
    for node in nodes:
        if node.op != "call_module" or len(node.args) != 1:
            continue
        before = node.args[0]
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        names = (str(before.target), str(node.target))
        convolution, normalisation = (model.get_submodule(name) for name in names)
        if type(normalisation) is not _NORMALISATIONS.get(type(convolution)):
            continue
        alone = all(calls[id(module)] == 1 for module in (convolution, normalisation))
        own = all(owners[id(p)] == 1 for m in (convolution, normalisation) for p in m.parameters())
        untouched = not any(name.startswith(tuple(f"{n}." for n in names)) for name in read)
        if alone and own and untouched and isinstance(normalisation.running_mean, Tensor):
            pairs.append(names)
    return pairs


def _folded(model: nn.Module, convolution: str, normalisation: str) -> nn.Module:
    before, after = (copy.deepcopy(model.get_submodule(n)) for n in (convolution, normalisation))
    dtype = next(before.parameters()).dtype
    # In float64, so that only the result is rounded.
    fused: nn.Module = fuse_conv_bn_eval(before.double(), after.double())  # type: ignore[arg-type,type-var]
    return fused.to(dtype).requires_grad_(False)
