"""Takes pruned channels out of a network, which leaves a smaller one with the same outputs."""

from torch import Tensor, nn

from trainables.models.base import CONVOLUTIONS, TRANSPOSED
from trainables.models.copies import copy_of
from trainables.sparsity.masking.channel_units import ChannelUnits
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.layers import NORMALISATIONS, is_depthwise


def compacted(model: nn.Module, registry: MaskRegistry) -> nn.Module:
    """Return a copy of the network in evaluation mode, without the channels that are pruned.

    Only structure channel has any: other networks come back whole.
    """
    if registry.units is None:
        return copy_of(model).eval()
    return without_units(model, registry.units, registry.units.kept(registry.keep())).eval()


def without_units(model: nn.Module, units: ChannelUnits, keep: Tensor) -> nn.Module:
    """Return a copy of the network with the kept units only; `keep` is bool by unit."""
    smaller = copy_of(model)
    parameters, buffers = dict(smaller.named_parameters()), dict(smaller.named_buffers())
    holders: dict[int, list[tuple[nn.Module, str]]] = {}  # by tensor; one may be tied
    for module in smaller.modules():
        for leaf, held in (
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ):
            holders.setdefault(id(held), []).append((module, leaf))
    for name in units.axes:
        tensor = parameters.get(name, buffers.get(name))
        assert tensor is not None, name
        value = tensor.detach()
        for dim, stays in units.positions(keep, name).items():
            index = stays.nonzero().reshape(-1).to(value.device)
            value = value.index_select(dim, index)
        if isinstance(tensor, nn.Parameter):
            value = nn.Parameter(value, requires_grad=tensor.requires_grad)
        for module, leaf in holders[id(tensor)]:
            setattr(module, leaf, value)
    for module in smaller.modules():
        _tell_sizes(module)
    return smaller


def _tell_sizes(module: nn.Module) -> None:
    """Set a layer's public sizes from its tensors."""
    weight = getattr(module, "weight", None)
    if isinstance(module, NORMALISATIONS):
        statistics = module.running_mean if weight is None else weight
        if statistics is not None:
            module.num_features = len(statistics)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, TRANSPOSED):
        if module.groups == 1:
            module.in_channels, module.out_channels = module.weight.shape[:2]
    elif isinstance(module, CONVOLUTIONS):
        if is_depthwise(module):  # one filter for each channel
            module.groups = module.in_channels = module.out_channels = module.weight.shape[0]
        elif module.groups == 1:
            module.out_channels, module.in_channels = module.weight.shape[:2]
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.Embedding):
        module.embedding_dim = module.weight.shape[1]
