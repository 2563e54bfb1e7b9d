"""Defines semantic segmentation: cross-entropy; mean IoU, pixel accuracy, mean cross-entropy.

Shape suffixes: B batch, C classes; h, w of the prediction; H, W of the target.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.batch import IGNORE_LABEL
from trainables.tasks.measuring.streaming import ImageMean, PixelMean, check_definition, histogram
from trainables.tasks.measuring.upsampling import upsample_bilinear, upsample_for


def _cross_entropy(logits_BCHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Return the cross-entropy (B, H, W) in nats, 0 where ignored.

    It is not reduced, because torch's 2-d reduction on CUDA uses atomics. Classes are moved last
    first, because on a CPU the softmax over a strided dimension takes twice as long.
    """
    logits_NC = logits_BCHW.movedim(1, -1).flatten(0, -2)
    entropy = F.cross_entropy(
        logits_NC, target_BHW.flatten(), ignore_index=IGNORE_LABEL, reduction="none"
    )
    return entropy.view(target_BHW.shape)


class Segmentation:
    """Predicts a class for every pixel: cross-entropy; mean IoU.

    The target is int64 (B, H, W), classes 0…C-1, `IGNORE_LABEL` where unlabelled.

    counts_ignored: the published Cityscapes loader marks unlabelled pixels by -1, which the
    published evaluation treats as a label; see `SegmentationAccumulator`.
    """

    name = "segmentation"

    def __init__(self, num_channels: int, *, counts_ignored: bool = False) -> None:
        self.num_channels = num_channels
        self._counts_ignored = counts_ignored

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of bilinearly up-sampled logits over labelled pixels.

        The published loss instead samples the target down to the logits, which ignores 63 of 64
        pixels and drops thin classes (`training.loss_resolution` logits).
        """
        logits = upsample_bilinear(prediction_BCHW, target.shape[-2:])
        num_labelled = (target != IGNORE_LABEL).sum().clamp(min=1)
        return _cross_entropy(logits, target).sum() / num_labelled

    def accumulator(self, definition: str, device: str) -> "SegmentationAccumulator":
        """Return an accumulator of the confusion matrix and mean cross-entropy over a split."""
        return SegmentationAccumulator(
            self.num_channels,
            definition=definition,
            device=device,
            counts_ignored=self._counts_ignored,
        )


class SegmentationAccumulator:
    """Accumulates a confusion matrix (rows truth, columns prediction) and mean cross-entropy.

    corrected: bilinear logits; mean IoU over the classes that occur in the split's truth or
      in its predictions (union > 0); accuracy and cross-entropy over all labelled pixels.
    published: nearest logits; mean IoU over classes with a true positive only, which drops
      a class exactly when its IoU is 0; accuracy and cross-entropy are means of per-image
      means. On Cityscapes (`counts_ignored`) unlabelled pixels, -1 there, pass the filter
      `label < num_classes` and count in the accuracy, always as wrong. scikit-learn's
      confusion matrix and the cross-entropy ignore them, so nothing else changes.
      Not reproduced: the class weights of the published Taskonomy cross-entropy.

    Both: all three metrics are NaN if the cross-entropy is NaN, for which one NaN or +inf logit at
    a labelled pixel is enough. With argmax alone, which takes NaN for the largest value, a broken
    network would look like a poor one.
    """

    def __init__(
        self, num_classes: int, *, definition: str, device: str, counts_ignored: bool = False
    ) -> None:
        check_definition(definition)
        self._num_classes = num_classes
        self._definition = definition
        self._counts_ignored = counts_ignored and definition == "published"
        mean = ImageMean if definition == "published" else PixelMean
        self._error = mean(device)
        self._accuracy = mean(device)
        # One cell past the matrix takes the ignored pixels, so that no shape depends on the data.
        self._counts = torch.zeros(num_classes**2 + 1, dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, prediction_BCHW: Tensor, target: Tensor) -> None:
        """Add one batch: logits (B, C, h, w), classes (B, H, W)."""
        logits = upsample_for(self._definition, prediction_BCHW, target.shape[-2:])
        labelled = target != IGNORE_LABEL
        self._error.update(_cross_entropy(logits, target), labelled)
        predicted = logits.max(dim=1).indices  # argmax of a strided dimension is twice as slow
        right = (predicted == target).to(torch.float32)
        counted = torch.ones_like(labelled) if self._counts_ignored else labelled
        self._accuracy.update(right, counted)
        cells = torch.where(labelled, target * self._num_classes + predicted, self._num_classes**2)
        self._counts += histogram(cells, self._counts.numel())

    @property
    def confusion(self) -> Tensor:
        """Return the confusion matrix, int64 (C, C): rows truth, columns prediction."""
        return self._counts[:-1].view(self._num_classes, self._num_classes)

    def compute(self) -> Mapping[str, float]:
        """Return the metrics of all batches so far."""
        error = self._error.compute()
        broken = error != error
        confusion = self.confusion.cpu()
        hits = confusion.diagonal()
        union = confusion.sum(dim=0) + confusion.sum(dim=1) - hits
        chosen = hits > 0 if self._definition == "published" else union > 0
        iou = hits[chosen].double() / union[chosen]
        return {
            "segmentation/miou": torch.nan if broken or iou.numel() == 0 else float(iou.mean()),
            "segmentation/pixel_accuracy": torch.nan if broken else self._accuracy.compute(),
            "segmentation/error": error,
        }
