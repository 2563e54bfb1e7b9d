"""Up-samples predictions from the network's stride to the size of the truth, or truth down to it.

Shape suffixes: B batch, C channels; h, w of the prediction; H, W of the target.
"""

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


@lru_cache(maxsize=64)
def _weights(num_in: int, num_out: int, device: str) -> Tensor:
    """Return linear interpolation weights (num_out, num_in), with clamped borders."""
    centres = (torch.arange(num_out, dtype=torch.float64) + 0.5) * (num_in / num_out) - 0.5
    centres = centres.clamp(0, num_in - 1)
    left = centres.floor().long().clamp(max=max(num_in - 2, 0))
    share = (centres - left).to(torch.float32)
    weights = torch.zeros(num_out, num_in)
    rows = torch.arange(num_out)
    weights[rows, left] = 1 - share
    if num_in > 1:
        weights[rows, left + 1] = share
    return weights.to(device)


@contextlib.contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Compute matrix products in full float32.

    The precision of the interpolation weights would be lost in autocast's bf16 and in the 10 bits
    of TF32, which training may use.
    """
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type=device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)


class _Separable(torch.autograd.Function):
    """Computes rows @ prediction @ columnsᵀ with exact forward and backward passes."""

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(rows, columns)
        with _exact(prediction.device):
            return rows @ (prediction @ columns.T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.saved_tensors
        with _exact(gradient.device):
            return (rows.T @ gradient) @ columns, None, None


def upsample_bilinear(prediction_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """Up-sample as `F.interpolate(mode="bilinear", align_corners=False)`, to float32 (B, C, H, W).

    It uses two matrix products because the backward pass of `F.interpolate` adds with
    atomics on CUDA, so that the same seed would not give the same result twice. The dense product
    also spreads a NaN over its whole image, so that none is missed between samples. Both passes
    are in full float32, whatever autocast and TF32 do to the network.
    """
    prediction = prediction_BChw.float()
    if tuple(prediction.shape[-2:]) == tuple(size):
        return prediction
    device = str(prediction.device)
    rows = _weights(prediction.shape[-2], size[0], device)
    columns = _weights(prediction.shape[-1], size[1], device)
    return _Separable.apply(prediction, rows, columns)


def upsample_nearest(prediction_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """Up-sample by the nearest pixel, as the published evaluation does, to float32 (B, C, H, W)."""
    return F.interpolate(prediction_BChw.float(), size=tuple(size), mode="nearest")


def upsample_for(definition: str, prediction_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """Up-sample as a metric definition requires: "corrected" bilinear, "published" nearest."""
    upsample = upsample_nearest if definition == "published" else upsample_bilinear
    return upsample(prediction_BChw, size)


def downsample_target(target: Tensor, size: Sequence[int]) -> Tensor:
    """Sample a target down to (h, w), as the published losses do; its type stays.

    It takes every pixel's nearest (`F.interpolate`'s "nearest": the one above and left), so
    labels, `IGNORE_LABEL` and NaN stay what they are. target: (B, H, W) or (B, C, H, W).
    """
    planes = target if target.ndim == 4 else target.unsqueeze(1)
    sampled = F.interpolate(planes.float(), size=tuple(size), mode="nearest")
    return sampled.to(target.dtype).reshape(*target.shape[:-2], *size)
