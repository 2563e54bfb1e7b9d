"""Names the layers whose channels can be taken out, and says along which dimension they run."""

from torch import nn

from trainables.models.base import CONVOLUTIONS, TRANSPOSED

NORMALISATIONS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a convolution has one filter for each channel."""
    return (
        isinstance(module, CONVOLUTIONS)
        and module.groups == module.in_channels == module.out_channels
        and module.groups > 1
    )


def output_dimension(module: nn.Module) -> int | None:
    """Return the dimension of `weight` along which a layer's output channels run; None: no layer.

    For transposed convolutions it is 1, for embeddings too.
    """
    if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
        return 0
    if isinstance(module, (*TRANSPOSED, nn.Embedding)):
        return 1
    return None


def input_dimension(module: nn.Module) -> int | None:
    """Return the dimension of `weight` along which a layer's input channels run; None: it has none.

    A depthwise convolution has none of its own: its input channels are its output channels.
    """
    if is_depthwise(module):
        return None
    if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
        return 1
    return 0 if isinstance(module, TRANSPOSED) else None


def why_fixed(module: nn.Module) -> str:
    """Return why a layer's channels cannot be taken out; '' if they can."""
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        if module.groups > 1 and not is_depthwise(module):
            return f"it is a convolution in {module.groups} groups"
        return ""
    if isinstance(module, (nn.Linear, nn.Embedding, nn.PReLU, *NORMALISATIONS)):
        return ""
    if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)):
        return f"{type(module).__name__} mixes its channels"
    if any(True for _ in module.parameters()):
        return f"{type(module).__name__} is not a layer whose channels are known"
    return ""
