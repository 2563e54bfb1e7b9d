"""Computes length and direction of vectors held in a channel dimension, (B, C, H, W).

It does not use torch's own norms, which process a strided dimension element by element on a CPU:
they took 53 ms instead of 0.4 ms for 16 × 3 × 120 × 160.
"""

from torch import Tensor

_SHORTEST = 1e-12  # shorter vectors have no direction; as in `torch.nn.functional.normalize`


def length(vectors_BCHW: Tensor) -> Tensor:
    """Return the lengths, (B, 1, H, W)."""
    return vectors_BCHW.square().sum(dim=1, keepdim=True).sqrt()


def unit(vectors_BCHW: Tensor) -> Tensor:
    """Return the vectors scaled to length 1; zero stays zero, NaN and infinity become NaN."""
    return vectors_BCHW / length(vectors_BCHW).clamp(min=_SHORTEST)
