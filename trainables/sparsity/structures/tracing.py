"""Finds a network's channel units by tracing one forward pass with Torch-Pruning.

Torch-Pruning (Fang et al. 2023, DepGraph) says which layers have to change when one channel is
taken out. What it says is then tried: units are taken out of a copy with random weights, and a
group whose removal changes the outputs, or breaks the network, is left dense.
"""

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.copies import copy_of, draws_put_back
from trainables.sparsity.masking.channel_units import FIXED, ChannelUnits
from trainables.sparsity.structures.layers import (
    NORMALISATIONS,
    input_dimension,
    is_depthwise,
    output_dimension,
    why_fixed,
)
from trainables.sparsity.structures.removal import predictions, removable

_TRACE_SIZE = (64, 64)  # pixels: small, and enough for an output stride of 32
_OUTPUT = "its channels are an output of the network"
_FROZEN = "a layer with these channels is frozen"
_MISREAD = "the tracer takes it for wider than it is"

Entry = tuple[str, int, int]  # tensor name, dimension, position


def trace_units(model: nn.Module, image_size: Sequence[int]) -> ChannelUnits:
    """Return the channel units of a multitask network, ours or a user's.

    image_size: (height, width) of an image that the network takes; a smaller one is tried first.
    The model does not change. Raises `UserError` if Torch-Pruning is not installed, if the network
    cannot be traced, or if it has no channel to take out.
    """
    pruning = _torch_pruning()
    trial = _trial_copy(model)
    with draws_put_back(model):
        units = _units(pruning, model, trial, image_size)
    if units.num_units == 0:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(units.left_dense.items())[:3])
        raise UserError(
            f"structure channel needs a layer whose channels can be taken out, got none in "
            f"{type(model).__name__} ({reasons}); use sparsity.structure=weight"
        )
    return units


def _units(
    pruning: ModuleType, model: nn.Module, trial: nn.Module, image_size: Sequence[int]
) -> ChannelUnits:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image, graph = _traced(pruning, trial, image_size)
        found = _Units(trial, {n for n, p in model.named_parameters() if not p.requires_grad})
        for group in _groups(graph, trial):
            found.add_group(pruning, graph, group)
    found.add_declared(model)
    return removable(trial, found.numbered(), image)


def _torch_pruning() -> ModuleType:
    try:
        import torch_pruning
    except ImportError:
        raise UserError(
            "structure channel needs Torch-Pruning, which is not installed; "
            "in the clone, run `pip install -e '.[ship]'`, or use sparsity.structure=weight"
        ) from None
    return torch_pruning


def _trial_copy(model: nn.Module) -> nn.Module:
    """Return a copy on the CPU with random weights, so that no channel is zero by chance.

    Parameters outside layers need no gradient in it: a graph that shows no such parameter is one
    of channels alone.
    """
    trial = copy_of(model).cpu().float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trial.parameters():
            parameter.requires_grad_(False).nan_to_num_()  # of a model that diverged, say
        for module in trial.modules():
            if output_dimension(module) is not None or isinstance(module, NORMALISATIONS):
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(True)
                    noise = torch.randn(parameter.shape, generator=generator)
                    parameter.add_(noise, alpha=0.1)
            if isinstance(module, NORMALISATIONS):
                if module.running_mean is not None:
                    module.running_mean.normal_(std=0.1, generator=generator)
                if module.running_var is not None:
                    module.running_var.uniform_(0.5, 1.5, generator=generator)
    return trial


def _outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    # Times 1, because the tracer takes no layer for an output.
    return [1.0 * prediction for prediction in predictions(model, image)]


def _traced(pruning: ModuleType, trial: nn.Module, image_size: Sequence[int]) -> tuple[Tensor, Any]:
    """Return the image that was used and Torch-Pruning's graph."""
    problem: Exception | None = None
    for size in (_TRACE_SIZE, tuple(image_size)):
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        try:
            with torch.enable_grad():
                graph = pruning.DependencyGraph().build_dependency(
                    trial, example_inputs=image, forward_fn=_outputs, verbose=False
                )
            return image, graph
        except Exception as error:  # a user's network, or an operation the tracer does not know
            problem = error
    said = (str(problem).splitlines() or [""])[0]
    raise UserError(
        f"structure channel must be able to trace {type(trial).__name__}, got "
        f"{type(problem).__name__}: {said}; compute tensors from layers in `forward`, or use "
        "sparsity.structure=weight"
    ) from problem


def _groups(graph: Any, trial: nn.Module) -> Iterator[Any]:
    """Yield a group for each layer that computes channels, in definition order."""
    for module in trial.modules():
        dimension = output_dimension(module)
        if dimension is None or module not in graph.module2node:
            continue
        pruner = graph.get_pruner_of_module(module)
        channels = list(range(len(cast(Tensor, module.weight).movedim(dimension, 0))))
        yield graph.get_pruning_group(module, pruner.prune_out_channels, channels)


class _Units:
    """Joins the entries that have to go together, group by group."""

    def __init__(self, trial: nn.Module, frozen: Collection[str]) -> None:
        self._trial = trial
        self._frozen = frozen  # parameters that keep every channel
        self._names = {module: name for name, module in trial.named_modules()}
        # Tied parameters have one name, that of `named_parameters`.
        self._parameter_names = {id(p): name for name, p in trial.named_parameters()}
        self._tensors = dict(trial.named_parameters()) | dict(trial.named_buffers())
        self._parent: dict[Entry, Entry] = {}
        self._fixed: dict[Entry, str] = {}  # by root of its set
        self._roots: list[tuple[str, str, int, int]] = []  # layer, weight, dimension, channels
        self.left_dense: dict[str, str] = {}

    def add_group(self, pruning: ModuleType, graph: Any, group: Any) -> None:
        """Take in the group of all channels of one layer."""
        root = group[0].dep.target.module
        dimension = output_dimension(root)
        assert dimension is not None
        weight = self._parameter_names[id(root.weight)]
        channels = root.weight.shape[dimension]
        self._roots.append((self._names[root], weight, dimension, channels))
        if self._is_plain(pruning, group, channels):
            self._join(pruning, graph, group, range(channels))
            return
        # Concatenations, splits and the like may tie channels of one layer to each other, which
        # only shows channel by channel.
        for channel in range(channels):
            one = graph.get_pruning_group(root, group[0].dep.handler, [channel])
            self._join(pruning, graph, one, None)

    def _is_plain(self, pruning: ModuleType, group: Any, channels: int) -> bool:
        """Return whether every item has the root's channels, each at the root's position."""
        types = pruning.ops.OPTYPE
        simple = (types.ELEMENTWISE, types.OUTPUT)
        return all(
            list(item.idxs) == list(range(channels)) == list(item.root_idxs)
            and (item.dep.target.module in self._names or item.dep.target.type in simple)
            for item in group
        )

    def _join(
        self, pruning: ModuleType, graph: Any, group: Any, channels: Iterable[int] | None
    ) -> None:
        """Join the entries of the items: position by position, or all of them (None)."""
        tied: list[list[Entry]] = []
        reason = ""
        for item in group:
            module = item.dep.target.module
            if item.dep.target.type == pruning.ops.OPTYPE.OUTPUT:
                reason = _OUTPUT
            elif module in self._names:
                own = (self._parameter_names[id(p)] for p in module.parameters(recurse=False))
                frozen = _FROZEN if any(name in self._frozen for name in own) else ""
                reason = reason or frozen or why_fixed(module)
                outwards = graph.is_out_channel_pruning_fn(item.dep.handler)
                found = self._entries(module, outwards, item.idxs)
                # A split, say, whose parts the tracer numbers anew.
                inside = [entries for entries in found if all(map(self._exists, entries))]
                reason = reason or (_MISREAD if len(inside) < len(found) else "")
                tied += inside
        if channels is None:
            sets = [[entry for entries in tied for entry in entries]]
        else:
            sets = [list(position) for position in zip(*tied, strict=True)]
        for entries in sets:
            for other in entries[1:]:
                self._union(entries[0], other)
            if reason:
                self._fix(entries[0], reason)

    def _exists(self, entry: Entry) -> bool:
        name, dimension, position = entry
        return position < self._tensors[name].shape[dimension]

    def _entries(
        self, module: nn.Module, outwards: bool, positions: Sequence[int]
    ) -> list[list[Entry]]:
        """Return the entries of a layer at positions, a list for each tensor concerned."""
        sides: list[tuple[str, int]] = []
        dimension = output_dimension(module) if outwards else input_dimension(module)
        if is_depthwise(module):
            dimension, outwards = 0, True
        if dimension is not None:
            sides.append((self._parameter_names[id(module.weight)], dimension))
            bias = getattr(module, "bias", None)
            if outwards and bias is not None:
                sides.append((self._parameter_names[id(bias)], 0))
        elif isinstance(module, (*NORMALISATIONS, nn.PReLU)):
            prefix = f"{self._names[module]}." if self._names[module] else ""
            for leaf, tensor in (
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ):
                if tensor.dim() == 1 and len(tensor) > max(positions):
                    name = self._parameter_names.get(id(tensor), prefix + leaf)
                    sides.append((name, 0))
        return [[(name, dim, position) for position in positions] for name, dim in sides]

    def add_declared(self, model: nn.Module) -> None:
        """Take in what the network itself says of its channels (`MultitaskModel`)."""
        parameters: dict[str, tuple[int, str]] = getattr(model, "channel_parameters", dict)()
        for name, (dimension, layer) in parameters.items():
            weight, out = self._weight_of(layer)
            shape = self._trial.get_parameter(name).shape
            for position in range(shape[dimension]):
                # A network may count its dimensions from the end.
                self._union((weight, out, position), (name, dimension % len(shape), position))
        for layer, num_subspaces in getattr(model, "channel_subspaces", dict)().items():
            weight, out = self._weight_of(layer)
            size = self._trial.get_parameter(weight).shape[out] // num_subspaces
            for position in range(size):
                for subspace in range(1, num_subspaces):
                    other = position + subspace * size
                    self._union((weight, out, position), (weight, out, other))

    def _weight_of(self, layer: str) -> tuple[str, int]:
        module = self._trial.get_submodule(layer)
        dimension = output_dimension(module)
        assert dimension is not None, f"{layer} is not a layer that computes channels"
        return self._parameter_names[id(module.weight)], dimension

    def numbered(self) -> ChannelUnits:
        """Return the units, numbered in the order of the layers that compute them."""
        number: dict[Entry, int] = {}
        group: list[int] = []
        groups: list[str] = []
        left_dense: dict[str, str] = {}
        for layer, weight, dimension, channels in self._roots:
            new = []
            for channel in range(channels):
                root = self._find((weight, dimension, channel))
                if root in self._fixed:
                    if self._fixed[root] != _OUTPUT:  # outputs go without saying
                        left_dense[layer] = self._fixed[root]
                elif root not in number:
                    number[root] = len(number)
                    new.append(root)
            if new:
                group += [len(groups)] * len(new)
                groups.append(layer)
        axes: dict[str, dict[int, Tensor]] = {}
        for entry in self._parent:
            unit = number.get(self._find(entry))
            if unit is not None:
                name, dim, position = entry
                axis = axes.setdefault(name, {})
                if dim not in axis:
                    axis[dim] = torch.full((self._tensors[name].shape[dim],), FIXED)
                axis[dim][position] = unit
        rows = {weight: dim for _, weight, dim, _ in self._roots if dim in axes.get(weight, {})}
        return ChannelUnits(
            axes=axes,
            rows=rows,
            group=torch.tensor(group, dtype=torch.int64),
            groups=tuple(groups),
            shapes={name: tuple(p.shape) for name, p in self._trial.named_parameters()},
            left_dense=left_dense,
        )

    def _find(self, entry: Entry) -> Entry:
        self._parent.setdefault(entry, entry)
        while (above := self._parent[entry]) != entry:
            self._parent[entry] = self._parent[above]
            entry = above
        return entry

    def _union(self, first: Entry, second: Entry) -> None:
        a, b = self._find(first), self._find(second)
        if a != b:
            self._parent[b] = a
            if b in self._fixed:
                self._fixed.setdefault(a, self._fixed.pop(b))

    def _fix(self, entry: Entry, reason: str) -> None:
        self._fixed.setdefault(self._find(entry), reason)
