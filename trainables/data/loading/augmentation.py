"""Resizes, mirrors and crops batches at random on the device, with consistent geometry.

The geometry is that of a camera with a fixed focal length whose principal point moves with the
crop:
- Mirroring reverses x: n_x changes its sign and nothing else changes.
- Resizing by s shows the scene as if it were compressed to 1/s of its depth: metric depth is
  divided by s, disparity multiplied by s, and normals, which transform by the inverse transpose,
  have n_z multiplied by s and are made unit vectors again (as in Eigen & Fergus 2015).
  AdaShare and DiSparse divide depth but leave normals as they are; theirs then disagree with
  their depth by up to 11.5 degrees at s = 1.5 and 19.5 degrees at s = 0.5.
- Outside the image, targets are unknown (ignored) and the image has the mean colour.

Images and responses are sampled bilinearly (a response next to an unknown one may become unknown).
Labels, normals, depth and other values all take the same nearest pixel, so that nothing is mixed
across an edge and they stay consistent.

Shape suffixes: B batch, C channels, H height, W width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainables.data.batch import IGNORE_LABEL, Batch
from trainables.data.targets import kind_of
from trainables.data.vectors import unit

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationParameters:
    """Holds one crop per sample, drawn on the CPU; `from_packed` may hold it on any device.

    scale: float64 (B,), factor of the resize. mirror: bool (B,), applied before the crop.
    top, left: int64 (B,), position of the crop in pixels of the resized image; negative if the
      resized image is smaller than the crop and is padded.
    """

    scale: Tensor
    mirror: Tensor
    top: Tensor
    left: Tensor

    @classmethod
    def draw(
        cls,
        generator: torch.Generator,
        batch_size: int,
        *,
        size: Size,
        crop: Size,
        scale_range: tuple[float, float],
        mirror: bool,
    ) -> "AugmentationParameters":
        """Draw scale and crop position uniformly, and mirror with probability one half.

        It always consumes four numbers per sample, so that settings do not shift the stream.
        """
        uniform = torch.rand(4, batch_size, generator=generator, dtype=torch.float64)
        low, high = scale_range
        scale = low + (high - low) * uniform[0]
        top, left = (
            _offset(length * scale, window, draw)
            for length, window, draw in zip(size, crop, uniform[2:], strict=True)
        )
        return cls(scale=scale, mirror=(uniform[1] < 0.5) & mirror, top=top, left=left)

    def packed(self) -> Tensor:
        """Return everything as one tensor, float64 (4, B), in which all of it is exact."""
        return torch.stack(
            [self.scale, self.mirror.double(), self.top.double(), self.left.double()]
        )

    @classmethod
    def from_packed(cls, packed_4B: Tensor) -> "AugmentationParameters":
        """Return what `packed` wrote, on the device of the tensor, without waiting for it."""
        scale, mirror, top, left = packed_4B.unbind()
        return cls(scale=scale, mirror=mirror > 0, top=top.long(), left=left.long())


def _offset(length: Tensor, window: int, uniform: Tensor) -> Tensor:
    """Return offsets in whole pixels, so that a crop at scale 1 copies pixels.

    They lie in 0…slack, or in slack…0 for a negative slack.
    """
    slack = torch.floor(length).long() - window
    steps = torch.floor(uniform * (slack.abs() + 1)).long()
    return torch.where(slack < 0, -steps, steps)


def augment(
    batch: Batch,
    parameters: AugmentationParameters,
    *,
    crop: Size,
    depth_kind: str,
    own_kinds: Mapping[str, str] | None = None,
) -> Batch:
    """Return the batch resized, mirrored and cropped to `crop`, on the batch's own device.

    The parameters are on that device too. Nothing here depends on their values but values: no shape
    and no path through the code, so that the whole can be recorded and replayed.

    Targets are named by the store's columns and treated by their kind (`trainables.data.targets`).
    depth_kind: "metric" or "disparity". own_kinds: the kinds of columns that a user's own tasks
    read.
    """
    height, width = batch.images_BCHW.shape[2:]
    # In double precision, whose sums and quotients are rounded alike on all devices, so that ties
    # are equal on them.
    rows = _source_positions(crop[0], parameters.top, parameters.scale)
    columns = _source_positions(crop[1], parameters.left, parameters.scale)
    grid = _Grid(
        rows=rows.floor().long(),
        columns=torch.where(
            parameters.mirror[:, None], width - 1 - columns.floor().long(), columns.floor().long()
        ),
        y=rows.float(),
        x=torch.where(parameters.mirror[:, None], width - columns, columns).float(),
        size=(height, width),
    )
    scale = parameters.scale.float().view(-1, 1, 1, 1)
    mirror = parameters.mirror.view(-1, 1, 1)

    targets: dict[str, Tensor] = {}
    for column, target in batch.targets.items():
        kind = kind_of(column, own_kinds)
        if kind == "labels":
            targets[column] = grid.nearest(target[:, None], IGNORE_LABEL)[:, 0]
        elif kind == "values":
            targets[column] = grid.nearest(target, float("nan"))
        elif kind == "vectors":
            normals = grid.nearest(target, float("nan"))
            x, y, z = normals.unbind(1)
            seen = torch.stack([torch.where(mirror, -x, x), y, z * scale[:, 0]], 1)
            targets[column] = unit(seen)
        elif kind == "depth":
            depth = grid.nearest(target, float("nan"))
            targets[column] = depth * scale if depth_kind == "disparity" else depth / scale
        else:
            targets[column] = grid.bilinear(target, float("nan"))
    # Images are normalised, so the mean colour is 0.
    return Batch(images_BCHW=grid.bilinear(batch.images_BCHW, 0.0), targets=targets)


def _source_positions(length: int, offset: Tensor, scale: Tensor) -> Tensor:
    """Return the crop's pixel centres in the image, (B, length), in pixels from the edge."""
    centres = torch.arange(length, dtype=torch.float64, device=scale.device) + 0.5
    return (centres[None, :] + offset[:, None]) / scale[:, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Grid:
    """Holds where a crop's pixels come from; axes are separate because crops are not rotated.

    rows, columns: the nearest pixels, int64 (B, H) and (B, W). y, x: positions, float32.
    """

    rows: Tensor
    columns: Tensor
    y: Tensor
    x: Tensor
    size: Size

    def nearest(self, values_BCHW: Tensor, outside: float) -> Tensor:
        height, width = self.size
        batch = torch.arange(len(values_BCHW), device=values_BCHW.device)[:, None, None]
        rows = self.rows.clamp(0, height - 1)[:, :, None]
        columns = self.columns.clamp(0, width - 1)[:, None, :]
        picked_BHWC = values_BCHW.movedim(1, 3)[batch, rows, columns]
        return picked_BHWC.movedim(3, 1).masked_fill(~self._inside(), outside)

    def bilinear(self, values_BCHW: Tensor, outside: float) -> Tensor:
        height, width = self.size
        y = (2.0 * self.y / height - 1.0)[:, :, None]
        x = (2.0 * self.x / width - 1.0)[:, None, :]
        grid = torch.stack(torch.broadcast_tensors(x, y), 3)
        # Clamp at the border and mask afterwards, so that outer pixels do not fade into padding.
        sampled = functional.grid_sample(
            values_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return sampled.masked_fill(~self._inside(), outside)

    def _inside(self) -> Tensor:
        height, width = self.size
        rows = (self.rows >= 0) & (self.rows < height)
        columns = (self.columns >= 0) & (self.columns < width)
        return (rows[:, :, None] & columns[:, None, :])[:, None]
