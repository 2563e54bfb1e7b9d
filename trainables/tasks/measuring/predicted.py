"""Reads off a network's output what it predicts at every pixel, as the metrics do.

Shape suffixes: B batch, C channels; h, w of the network's output; H, W in pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trainables.data.vectors import unit
from trainables.registry.tasks import TaskDescription
from trainables.tasks.measuring.upsampling import upsample_for

_VALUES_AT_ONCE = 2**26  # logits of a large picture are up-sampled in groups of classes


@torch.no_grad()
def predicted(
    task: TaskDescription, output_BChw: Tensor, size: Sequence[int], definition: str
) -> np.ndarray:
    """Return the predictions of a batch at `size` (height, width), without channels where one.

    definition: "corrected" or "published"; it decides how outputs are up-sampled.

    - labels with a channel for each class: class ids, uint8 (B, H, W); int16 from 257 classes on;
    - vectors of three channels: unit vectors, float32 (B, H, W, 3), zero without a direction;
    - anything else: float32 (B, H, W), or (B, H, W, C) of several channels.

    A pixel whose output is NaN is NaN; of class ids, it has the class of the first NaN.
    """
    channels = output_BChw.shape[1]
    if task.kind == "labels" and channels > 1:
        ids = _largest(output_BChw, size, definition)
        return ids.to(torch.uint8 if channels <= 256 else torch.int16).cpu().numpy()
    values = upsample_for(definition, output_BChw, size)
    if task.kind == "vectors" and channels == 3:
        values = unit(values)
    moved = values.movedim(1, -1).cpu().numpy()
    return np.ascontiguousarray(moved[..., 0] if channels == 1 else moved)


def _largest(logits_BChw: Tensor, size: Sequence[int], definition: str) -> Tensor:
    """Return the class of the largest logit, (B, H, W): all at once, or else in groups."""
    batch, channels = logits_BChw.shape[:2]
    group = max(1, _VALUES_AT_ONCE // (batch * size[0] * size[1]))
    best, ids = None, None
    for start in range(0, channels, group):
        logits = upsample_for(definition, logits_BChw[:, start : start + group], size)
        values, places = logits.max(dim=1)
        if best is None or ids is None:
            best, ids = values, places
            continue
        larger = (values > best) | (values.isnan() & ~best.isnan())
        best = torch.where(larger, values, best)
        ids = torch.where(larger, places + start, ids)
    assert ids is not None
    return ids
