"""Means over a split, accumulated on the device without ever storing its pixels.

Sums are float64 and counts int64, so the way a split is cut into batches does not show
(beyond the last bits of a float64 sum). Nothing here waits for the device before `compute`;
the confusion matrix does once a batch, for `torch.bincount` looks at its largest value.

Shape suffixes: B batch, H height, W width.
"""

import torch
from torch import Tensor

from trainables.config import METRIC_DEFINITIONS
from trainables.errors import unknown_name


def check_definition(definition: str) -> None:
    """Raises `UserError` unless `definition` is "corrected" or "published"."""
    if definition not in METRIC_DEFINITIONS:
        raise unknown_name("metric definition", definition, METRIC_DEFINITIONS)


class PixelMean:
    """The mean over valid pixels; NaN when there is none, or when one of them is NaN."""

    def __init__(self, device: str) -> None:
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, values_BHW: Tensor, valid_BHW: Tensor) -> None:
        """Add one batch of values, of which those at valid pixels count."""
        # where, not a product: 0 × NaN of an ignored pixel is NaN.
        self._sum += torch.where(valid_BHW, values_BHW, 0.0).sum(dtype=torch.float64)
        self._count += valid_BHW.sum()

    def compute(self) -> float:
        """The mean so far; NaN where no pixel was valid."""
        return float(self._sum / self._count)  # 0 / 0 = NaN


class ImageMean:
    """The mean over images of each image's mean over its valid pixels.

    The published evaluation, which averages per batch and evaluates NYU-v2 and Cityscapes
    with batches of one image. An image without a valid pixel is left out (there: NaN for all).
    """

    def __init__(self, device: str) -> None:
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, values_BHW: Tensor, valid_BHW: Tensor) -> None:
        """Add one batch of values, of which those at valid pixels count."""
        sums = torch.where(valid_BHW, values_BHW, 0.0).sum(dim=(-2, -1), dtype=torch.float64)
        counts = valid_BHW.sum(dim=(-2, -1))
        self._sum += torch.where(counts > 0, sums / counts.clamp(min=1), 0.0).sum()
        self._count += (counts > 0).sum()

    def compute(self) -> float:
        """The mean so far; NaN where no image had a valid pixel."""
        return float(self._sum / self._count)


def indicator(condition: Tensor, values: Tensor) -> Tensor:
    """1 where `condition`, else 0, and NaN where `values` is: a comparison would hide it."""
    return torch.where(torch.isnan(values), values, condition.to(values.dtype))
