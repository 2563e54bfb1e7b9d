"""Accumulates means over a split on the device without storing its pixels.

Sums are float64 and counts int64, so the way a split is cut into batches changes at most the
last bits of a float64 sum. Nothing here waits for the device before `compute`.

Shape suffixes: B batch, H height, W width.
"""

import torch
from torch import Tensor

from trainables.config import METRIC_DEFINITIONS
from trainables.errors import unknown_name


def check_definition(definition: str) -> None:
    """Raise `UserError` unless `definition` is "corrected" or "published"."""
    if definition not in METRIC_DEFINITIONS:
        raise unknown_name("metric definition", definition, METRIC_DEFINITIONS)


class PixelMean:
    """Accumulates the mean over valid pixels; NaN if there are none or one of them is NaN."""

    def __init__(self, device: str) -> None:
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, values_BHW: Tensor, valid_BHW: Tensor) -> None:
        """Add one batch of values; only those at valid pixels count."""
        # Use where, not a product: 0 × NaN of an ignored pixel is NaN.
        self._sum += torch.where(valid_BHW, values_BHW, 0.0).sum(dtype=torch.float64)
        self._count += valid_BHW.sum()

    def compute(self) -> float:
        """Return the mean so far; NaN if no pixel was valid."""
        return float(self._sum / self._count)  # 0 / 0 = NaN


class ImageMean:
    """Accumulates the mean over images of each image's mean over its valid pixels.

    This is the published evaluation, which averages per batch and evaluates NYU-v2 and Cityscapes
    with batches of one image. An image without a valid pixel is left out; in the published
    evaluation it makes the whole result NaN.
    """

    def __init__(self, device: str) -> None:
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)

    def update(self, values_BHW: Tensor, valid_BHW: Tensor) -> None:
        """Add one batch of values; only those at valid pixels count."""
        sums = torch.where(valid_BHW, values_BHW, 0.0).sum(dim=(-2, -1), dtype=torch.float64)
        counts = valid_BHW.sum(dim=(-2, -1))
        self._sum += torch.where(counts > 0, sums / counts.clamp(min=1), 0.0).sum()
        self._count += (counts > 0).sum()

    def compute(self) -> float:
        """Return the mean so far; NaN if no image had a valid pixel."""
        return float(self._sum / self._count)


def indicator(condition: Tensor, values: Tensor) -> Tensor:
    """Return 1 where `condition` holds, else 0, and NaN where `values` is NaN."""
    return torch.where(torch.isnan(values), values, condition.to(values.dtype))


def histogram(cells: Tensor, num_cells: int) -> Tensor:
    """Return how often each whole number from 0 to `num_cells` - 1 occurs, int64 (num_cells,).

    cells: int64, of any shape, within these bounds.
    """
    if cells.is_cuda:
        # torch.bincount waits for the device twice, for the smallest and the largest value. Here
        # both are given; for whole numbers in bins of width 1 the arithmetic is exact.
        return torch.histc(cells, bins=num_cells, min=0, max=num_cells)
    return torch.bincount(cells.flatten(), minlength=num_cells)
