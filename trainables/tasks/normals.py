"""Defines surface normals: cosine distance; the angle between prediction and truth.

Shape suffixes: B batch, C = 3; h, w of the prediction; H, W of the target.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.data.vectors import length, unit
from trainables.tasks.measuring.streaming import PixelMean, check_definition, histogram, indicator
from trainables.tasks.measuring.upsampling import upsample_bilinear, upsample_for

BIN_WIDTH_DEG = 0.005
_NUM_BINS = round(180 / BIN_WIDTH_DEG)
_THRESHOLDS_DEG = {"within_11_25": 11.25, "within_22_5": 22.5, "within_30": 30.0}

# Below this length a prediction has almost no direction, and the cosine's gradient grows with
# 1 / length: a head pruned to zero would send 1e12 into the trunk. Unit vectors change by 5e-5.
_SOFT_LENGTH = 1e-2


# The released Taskonomy loader gives an unknown pixel, (128, 128, 128) in the file, the components
# 2 · 128 / 255 - 1 = 1 / 255 right, down and towards the camera; this is their direction in our
# frame, where z points forward.
_UNKNOWN_ON_TASKONOMY = (3**-0.5, 3**-0.5, -(3**-0.5))


class Normals:
    """Predicts the direction of the surface at every pixel: cosine distance; angle.

    The target is float32 (B, 3, H, W), unit vectors, NaN where unknown. The prediction is any
    vector of that direction; its length has no meaning.

    as_colours: whether the published evaluation compares the colours in which normals are
    stored, as it does except on Taskonomy; see `NormalsAccumulator`.
    """

    name = "normals"

    def __init__(self, num_channels: int = 3, *, as_colours: bool = True) -> None:
        self.num_channels = num_channels
        self._as_colours = as_colours

    def loss(self, prediction_BCHW: Tensor, target: Tensor) -> Tensor:
        """Return 1 - cosine of the bilinearly up-sampled prediction, mean over known pixels."""
        prediction = upsample_bilinear(prediction_BCHW, target.shape[-2:])
        valid = _known(target)
        target = torch.where(valid.unsqueeze(1), target, 0.0)
        softened = (prediction.square().sum(dim=1) + _SOFT_LENGTH**2).sqrt()
        cosine = (prediction * target).sum(dim=1) / softened
        return ((1 - cosine) * valid).sum() / valid.sum().clamp(min=1)

    def accumulator(self, definition: str, device: str) -> "NormalsAccumulator":
        """Return an accumulator of angles over a split."""
        return NormalsAccumulator(definition=definition, device=device, as_colours=self._as_colours)


class NormalsAccumulator:
    """Accumulates angles in degrees over the pixels of the split; the median by a histogram.

    corrected: bilinear up-sampling; known pixels; angle by atan2(|p × t|, p · t), which unlike
      arccos is accurate near 0°; a zero prediction has no direction and counts as 90°.
    published: nearest up-sampling; arccos of the clipped cosine in float32, which is coarse
      (0.03°) near 0°. The compared vectors depend on the loader.
    published, `as_colours`: AdaShare's NYU-v2 files hold normals as colours, 127.5 · (1 + n) with
      n = (x, z, -y), which are compared as they are, never mapped back to [-1, 1]. All
      colours lie in one octant, so angles shrink (two opposite normals differ by at most
      90°, and most by far less): the published errors near 16° are angles between colours. The
      channel order (BGR there) permutes both vectors alike and changes no angle; the offset
      does. The truth is rounded to 8 bits, and a pixel with a channel of 255 is left out. This
      is the marker of "unknown", but also holds for every normal within 5° of +x, +z or -y, such
      as a floor seen by a level camera. Our networks learn true unit vectors, so their prediction
      is turned into that colour too; a published network predicts the colour directly.
    published, not `as_colours`: the Taskonomy loaders of AdaShare and DiSparse map bytes p to
      2p / 255 - 1, so true vectors are compared and no pixel is 255. Every pixel counts: the
      loaders' `normal_mask` is never passed to the evaluation, so the truth of an unknown pixel,
      grey 128, is the direction (1, 1, -1) / √3 of our frame (right, down and back). Not
      reproduced: a pixel that is unknown to us only because it has no depth has its own normal in
      the file. It counts as a grey pixel here, because our targets hold NaN for both.

    `within_*` compare with < for corrected and <= for published. The median is the mean of the two
    middle angles, each known to half a bin of 0.005°. All metrics are NaN if the prediction at a
    known pixel is NaN or infinite.
    """

    def __init__(self, *, definition: str, device: str, as_colours: bool = True) -> None:
        check_definition(definition)
        self._definition = definition
        self._as_colours = as_colours
        self._unknown = torch.tensor(_UNKNOWN_ON_TASKONOMY, device=device).view(1, 3, 1, 1)
        self._mean = PixelMean(device)
        self._within = {name: PixelMean(device) for name in _THRESHOLDS_DEG}
        # One cell past the end takes the unknown pixels, so that no shape depends on the data.
        self._counts = torch.zeros(_NUM_BINS + 1, dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, prediction_BCHW: Tensor, target: Tensor) -> None:
        """Add one batch: predictions (B, 3, h, w), targets (B, 3, H, W)."""
        prediction = upsample_for(self._definition, prediction_BCHW, target.shape[-2:])
        published = self._definition == "published"
        valid = _known(target)
        if published and self._as_colours:
            colour = _colour(target).round()
            valid &= colour.amax(dim=1) < 255
            angles = _arccos_deg(_colour(unit(prediction)), colour)
        elif published:
            known = torch.where(valid.unsqueeze(1), target, self._unknown)
            angles = _arccos_deg(prediction, known)
            valid = torch.ones_like(valid)
        else:
            angles = angles_deg(prediction, target)
        self._mean.update(angles, valid)
        for name, threshold in _THRESHOLDS_DEG.items():
            inside = angles <= threshold if published else angles < threshold
            self._within[name].update(indicator(inside, angles), valid)
        bins = (angles.nan_to_num(0.0) / BIN_WIDTH_DEG).long().clamp(0, _NUM_BINS - 1)
        bins = torch.where(valid, bins, _NUM_BINS)
        self._counts += histogram(bins, _NUM_BINS + 1)

    def compute(self) -> Mapping[str, float]:
        """Return the metrics of all batches so far."""
        mean = self._mean.compute()
        median = torch.nan if mean != mean else self._median()
        return {
            "normals/mean_error_deg": mean,
            "normals/median_error_deg": median,
            **{f"normals/{name}": share.compute() for name, share in self._within.items()},
        }

    def _median(self) -> float:
        cumulative = self._counts[:-1].cumsum(0).cpu()
        total = int(cumulative[-1])
        # Bin of the k-th smallest angle (from 1): the first whose cumulative count reaches k.
        ranks = torch.tensor([(total + 1) // 2, total // 2 + 1])
        bins = torch.searchsorted(cumulative, ranks)
        return float((bins.double() + 0.5).mean() * BIN_WIDTH_DEG)


def angles_deg(first_BCHW: Tensor, second_BCHW: Tensor) -> Tensor:
    """Return the angles (B, H, W) between vectors, in [0, 180]; 90 for a zero vector."""
    first, second = unit(first_BCHW), unit(second_BCHW)
    cross = length(torch.linalg.cross(first, second, dim=1)).squeeze(1)
    dot = (first * second).sum(dim=1)
    degrees = torch.rad2deg(torch.atan2(cross, dot))
    # atan2(0, 0) = 0 would give a head that was pruned away a perfect score.
    return torch.where((cross == 0) & (dot == 0), 90.0, degrees)


def _known(target_BCHW: Tensor) -> Tensor:
    return ~torch.isnan(target_BCHW).any(dim=1)


def _colour(normals_BCHW: Tensor) -> Tensor:
    x, y, z = normals_BCHW.unbind(dim=1)
    return 127.5 * (1 + torch.stack([x, z, -y], dim=1))


def _arccos_deg(first_BCHW: Tensor, second_BCHW: Tensor) -> Tensor:
    cosine = (unit(first_BCHW) * unit(second_BCHW)).sum(dim=1)
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
