"""Converts stored values to what the network and the losses use, on the device."""

from functools import lru_cache

import torch
from torch import Tensor

from trainables.data.batch import Batch
from trainables.data.store.encoding import (
    MARKED_RESPONSE_SCALE,
    NORMAL_SCALE,
    RESPONSE_SCALE,
    UNKNOWN_RESPONSE,
)
from trainables.data.store.split_file import Split
from trainables.data.vectors import length


def decode(stored: dict[str, Tensor], split: Split) -> Batch:
    """Convert stored values to those the network and the losses use; unknown is NaN or 255.

    Targets are named by the store's columns; for built-in tasks that is the task's name.
    """
    # Every finished split has image statistics; they are optional only while it is being written.
    assert split.meta.image_mean is not None
    assert split.meta.image_std is not None
    image = stored["image"]
    mean = _by_channel(tuple(split.meta.image_mean), str(image.device))
    deviation = _by_channel(tuple(split.meta.image_std), str(image.device))
    images_BCHW = (image.movedim(3, 1).float() / 255.0 - mean) / deviation
    nan = float("nan")
    targets: dict[str, Tensor] = {}
    for column, values in stored.items():
        kind = split.meta.kind(column)
        if kind == "labels":
            targets[column] = values.long()
        elif kind == "values":
            targets[column] = values[:, None]
        elif kind == "vectors":
            normals = values.movedim(3, 1).float() / NORMAL_SCALE
            lengths = length(normals)
            targets[column] = (normals / lengths).masked_fill(lengths == 0, nan)
        elif kind == "depth":
            depth = values[:, None].float()
            targets[column] = depth.masked_fill(depth == 0, nan)
        elif kind == "response":
            responses = values[:, None]
            if split.meta.unknown_responses:
                targets[column] = (responses.float() / MARKED_RESPONSE_SCALE).masked_fill(
                    responses == UNKNOWN_RESPONSE, nan
                )
            else:
                targets[column] = responses.float() / RESPONSE_SCALE
    return Batch(images_BCHW=images_BCHW.contiguous(), targets=targets)


@lru_cache(maxsize=64)
def _by_channel(values: tuple[float, ...], device: str) -> Tensor:
    """Return values for each channel of an image, (3, 1, 1); they go to the device only once."""
    return torch.tensor(values, device=device).view(-1, 1, 1)
