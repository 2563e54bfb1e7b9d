"""Length and direction of vectors held in a channel dimension, (B, C, H, W).

Written out, because torch's own norms take a strided dimension element by element on a CPU:
measured 53 ms against 0.4 ms for 16 × 3 × 120 × 160.
"""

from torch import Tensor

_SHORTEST = 1e-12  # shorter vectors have no direction; as in `torch.nn.functional.normalize`


def length(vectors_BCHW: Tensor) -> Tensor:
    """(B, 1, H, W)."""
    return vectors_BCHW.square().sum(dim=1, keepdim=True).sqrt()


def unit(vectors_BCHW: Tensor) -> Tensor:
    """The vectors at length 1; a zero vector stays zero, NaN and infinity become NaN."""
    return vectors_BCHW / length(vectors_BCHW).clamp(min=_SHORTEST)
