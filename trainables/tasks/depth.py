"""Defines depth or disparity: L1; absolute and relative error, and shares within a ratio.

Shape suffixes: B batch, C = 1; h, w of the prediction; H, W of the target.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.tasks.measuring.streaming import ImageMean, PixelMean, check_definition, indicator
from trainables.tasks.measuring.upsampling import upsample_for
from trainables.tasks.regression import l1_loss

_RATIOS = {"within_1_25": 1.25, "within_1_25_squared": 1.25**2, "within_1_25_cubed": 1.25**3}


class Depth:
    """Predicts the distance at every pixel: L1 loss; mean absolute and relative error.

    The target is float32 (B, 1, H, W), positive, NaN where unknown.

    published_offset: what the published evaluation's values lie above ours; see
    `DepthAccumulator`.
    """

    name = "depth"

    def __init__(self, num_channels: int = 1, *, published_offset: float = 0.0) -> None:
        self.num_channels = num_channels
        self._published_offset = published_offset

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        """Return `l1_loss`, in the data set's unit."""
        return l1_loss(prediction_BCHW, target)

    def accumulator(self, definition: str, device: str) -> "DepthAccumulator":
        """Return an accumulator of errors and shares over a split."""
        return DepthAccumulator(
            definition=definition, device=device, published_offset=self._published_offset
        )


class DepthAccumulator:
    """Accumulates errors in the data set's unit, and shares of pixels whose ratio is inside δ.

    The ratio is max(p / t, t / p) for prediction p and truth t.

    corrected: bilinear up-sampling, means over all known pixels; a prediction <= 0 is not a
      depth and lies outside every δ; ratio < δ.
    published: nearest up-sampling; the two errors are means of per-image means, the shares
      are over all pixels; ratio <= δ, and a negative prediction has a negative ratio, which
      is inside every δ. On Cityscapes the published disparity of a pixel p is p / 65535, ours
      (p - 1) / 65535: truth and prediction are shifted by `published_offset` before they are
      divided. (Their difference is the same without it.)

    A NaN prediction at a known pixel makes all metrics NaN.
    """

    def __init__(self, *, definition: str, device: str, published_offset: float = 0.0) -> None:
        check_definition(definition)
        self._definition = definition
        self._offset = published_offset if definition == "published" else 0.0
        mean = ImageMean if definition == "published" else PixelMean
        self._absolute = mean(device)
        self._relative = mean(device)
        self._within = {name: PixelMean(device) for name in _RATIOS}

    @torch.no_grad()
    def update(self, prediction_BCHW: Tensor, target: Tensor) -> None:
        """Add one batch: predictions (B, 1, h, w), targets (B, 1, H, W)."""
        prediction = upsample_for(self._definition, prediction_BCHW, target.shape[-2:]).squeeze(1)
        truth = target.squeeze(1)
        valid = ~torch.isnan(truth)
        error = (prediction - truth).abs()
        self._absolute.update(error, valid)
        if self._offset:
            prediction, truth = prediction + self._offset, truth + self._offset
        self._relative.update(error / truth, valid)
        published = self._definition == "published"
        ratio = torch.maximum(prediction / truth, truth / prediction)
        for name, limit in _RATIOS.items():
            inside = ratio <= limit if published else (ratio < limit) & (prediction > 0)
            self._within[name].update(indicator(inside, prediction), valid)

    def compute(self) -> Mapping[str, float]:
        """Return the metrics of all batches so far."""
        return {
            "depth/absolute_error": self._absolute.compute(),
            "depth/relative_error": self._relative.compute(),
            **{f"depth/{name}": share.compute() for name, share in self._within.items()},
        }
