"""Writes and reads a trained model as one file, for use outside a study."""

import errno
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.config import TrialConfig
from trainables.cost.narrower import network_of
from trainables.data.catalogue import Dataset
from trainables.errors import UserError, in_a_line, is_out_of_memory
from trainables.models.catalogue import build_model, service_of
from trainables.registry.lookup import METHOD
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.sparsity.structures.catalogue import use_structure
from trainables.training.device import require_device
from trainables.training.model_files import model_file, not_there, refused, unreadable

EXPORT_VERSION = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """Holds a model in evaluation mode and what its images must look like.

    model: `model(images_BCHW)` gives `{task: prediction_BChw}` at the output stride; pruned
      weights are zeros.
    num_channels: channels of each task's prediction, in the order of the heads.
    image_mean, image_std: per channel; images are (pixel / 255 - mean) / std.
    """

    model: nn.Module
    registry: MaskRegistry
    config: TrialConfig
    num_channels: Mapping[str, int]
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]


def save_model(
    path: Path, config: TrialConfig, model: nn.Module, registry: MaskRegistry, dataset: Dataset
) -> None:
    """Write weights, bit-packed masks and configuration; the file is complete or absent."""
    state = {
        "version": EXPORT_VERSION,
        "config": config.to_dict(),
        "num_channels": {task: dataset.num_channels(task) for task in config.data.tasks},
        "image_mean": list(dataset.image_mean),
        "image_std": list(dataset.image_std),
        "model": {name: value.cpu() for name, value in model.state_dict().items()},
        "registry": registry.state_dict(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        torch.save(state, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_model(path: Path | str, device: str = "cpu") -> TrainedModel:
    """Return the model that `save_model` wrote. Raises `UserError` for any other file.

    path: the file, the folder with its `model.pt`, or a trial of a study in runs/, "demo-00003".
    """
    file = model_file(path)
    if not file.is_file():
        raise not_there(path)
    require_device(device)
    try:
        with zipfile.ZipFile(file) as archive:  # torch.load does not compare the checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise refused(file, f"a damaged one: {Path(damaged).name} does not match its checksum")
        state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    except UserError:
        raise
    except Exception as error:  # readers of foreign files raise many kinds
        if is_out_of_memory(error):
            raise
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place not in the file
            raise unreadable(file, error) from error
        raise refused(file, f"a file that another program wrote ({in_a_line(error)})") from error
    version = state.get("version") if isinstance(state, dict) else None
    if version is None:
        raise refused(file)
    if version != EXPORT_VERSION:
        raise UserError(
            f"{str(file)!r} must have version {EXPORT_VERSION}, got {version}; train it again, or "
            "load it with the release that wrote it"
        )
    try:
        return _restored(state, device)
    except UserError:
        raise  # it says what is wrong, such as a user's module that is not there
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise refused(
            file, f"one that does not fit its configuration ({in_a_line(error)})"
        ) from error


def untrained(
    config: TrialConfig, num_channels: Mapping[str, int], device: str = "cpu"
) -> tuple[nn.Module, MaskRegistry]:
    """Return a trial's network and its masks, in the trial's structure, as before training."""
    network = network_of(config, num_channels)
    model = build_model(network, num_channels, config.seed).to(device)
    registry = MaskRegistry(model, service_of(network, model, config.data.size))
    if METHOD.find(config.method).sparse:
        use_structure(config.sparsity.structure, registry, model, config.data.size)
    return model, registry


def _restored(state: Mapping[str, Any], device: str) -> TrainedModel:
    config = TrialConfig.from_dict(state["config"])
    model, registry = untrained(config, state["num_channels"], device)
    model.load_state_dict(state["model"])
    registry.load_state_dict(state["registry"])
    return TrainedModel(
        model=model.eval(),
        registry=registry,
        config=config,
        num_channels=dict(state["num_channels"]),
        image_mean=tuple(state["image_mean"]),
        image_std=tuple(state["image_std"]),
    )
