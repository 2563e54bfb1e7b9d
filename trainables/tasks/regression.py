"""Implements L1 regression of one channel, which depth, keypoints and edges share.

Shape suffixes: B batch, C = 1; h, w of the prediction; H, W of the target.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.tasks.measuring.streaming import ImageMean, PixelMean, check_definition
from trainables.tasks.measuring.upsampling import upsample_bilinear, upsample_for


def l1_loss(prediction_BCHW: Tensor, target_BCHW: Tensor) -> Tensor:
    """Return mean |up-sampled prediction - truth| over pixels with a truth (not NaN)."""
    prediction = upsample_bilinear(prediction_BCHW, target_BCHW.shape[-2:])
    valid = ~torch.isnan(target_BCHW)
    # NaN must be removed before the subtraction, because the gradient of a masked NaN is NaN.
    error = (prediction - torch.where(valid, target_BCHW, 0.0)).abs()
    return (error * valid).sum() / valid.sum().clamp(min=1)


class ResponseAccumulator:
    """Accumulates mean |prediction - truth| of a response map; lower is better.

    corrected: bilinear up-sampling, mean over all known pixels.
    published: nearest up-sampling, mean of per-image means. (The published Taskonomy run
      averages per batch of 16; per image is the same rule with batches of one.)
    """

    def __init__(self, name: str, *, definition: str, device: str) -> None:
        check_definition(definition)
        self._name = name
        self._definition = definition
        self._error = ImageMean(device) if definition == "published" else PixelMean(device)

    @torch.no_grad()
    def update(self, prediction_BCHW: Tensor, target: Tensor) -> None:
        """Add one batch: predictions (B, 1, h, w), targets (B, 1, H, W)."""
        prediction = upsample_for(self._definition, prediction_BCHW, target.shape[-2:])
        error = (prediction - target).abs().squeeze(1)
        self._error.update(error, ~torch.isnan(target).squeeze(1))

    def compute(self) -> Mapping[str, float]:
        """Return the mean error of all batches so far."""
        return {f"{self._name}/error": self._error.compute()}


class ResponseTask:
    """Predicts a response in [0, 1]; the target is float32 (B, 1, H, W), NaN where unknown."""

    name: str

    def __init__(self, num_channels: int = 1) -> None:
        self.num_channels = num_channels

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        """Return `l1_loss`."""
        return l1_loss(prediction_BCHW, target)

    def accumulator(self, definition: str, device: str) -> ResponseAccumulator:
        """Return an accumulator of the mean error over a split."""
        return ResponseAccumulator(self.name, definition=definition, device=device)
