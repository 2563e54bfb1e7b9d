"""Loads a trained or a shipped model, and runs it on one picture.

Shape suffixes: B batch, C channels, H height, W width; h, w of the network's output.
"""

import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config import TrialConfig
from trainables.data.resizing import resize_array
from trainables.errors import Failure, UserError, in_a_line
from trainables.shipping.formats.packages import require_packages
from trainables.shipping.runtime import OnnxModel, require_runtime
from trainables.training.device import (
    autocast_factory,
    placed,
    prepare_device,
    resolve_device,
    resolve_precision,
)
from trainables.training.export import load_model
from trainables.training.model_files import WANTED, model_file, not_there, require_reachable

SMALLEST_SIDE = 16  # pixels of an image on its way into the network, as `data.size` has it

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Holds a network that is ready to predict.

    run: gives `{task: output_BChw}` of normalised images. fixed_size: the only size that it takes,
      None where it takes any. autocast: of the precision that it was evaluated in.
    """

    run: Callable[[Tensor], Mapping[str, Tensor]]
    config: TrialConfig
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    device: str
    fixed_size: Size | None = None
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    def size_for(self, picture: Size, asked: Size | None) -> Size:
        """Return the size (height, width) at which a picture of that size goes into the network.

        It has as many pixels as the frames of training, in the picture's own proportions. Things
        then look as large to the network as they did in training, which its depth depends on, and
        the time does not depend on the camera. A picture of the frames' proportions goes in at
        exactly `data.size`. asked: by the user, instead. Raises `UserError` if it is not the one
        that the network takes.
        """
        if self.fixed_size is not None:
            if asked not in (None, self.fixed_size):
                raise UserError(
                    f"`--size` must be {_text(self.fixed_size)}, which the file was exported for, "
                    f"got {_text(asked)}; leave it out, or ship the model with --dynamic-size"
                )
            return self.fixed_size
        if asked is not None:
            return asked
        height, width = self.config.data.size
        scale = math.sqrt(height * width / (picture[0] * picture[1]))
        sides = [max(SMALLEST_SIDE, round(side * scale)) for side in picture]
        return sides[0], sides[1]

    def squeezes(self, picture: Size) -> str:
        """Say where a picture (height, width) does not keep its proportions; else ""."""
        if self.fixed_size is None:
            return ""
        (height, width), (own_height, own_width) = self.fixed_size, picture
        if math.isclose(height * own_width, width * own_height, rel_tol=0.02):
            return ""
        return (
            f"goes into the network at {_text(self.fixed_size)}, the one size that the file takes, "
            "and so not in its own proportions; `ship --dynamic-size` makes a file for any size"
        )

    @torch.no_grad()
    def outputs(self, pixels: NDArray[np.uint8], size: Size) -> dict[str, Tensor]:
        """Return `{task: output_BChw}` in float32 for pixels (H, W, 3), resized as frames are.

        Raises `UserError` for a size that the network cannot take.
        """
        image = torch.from_numpy(resize_array(pixels, size, "image").copy())
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.image_mean, self.image_std))
        images_BCHW = ((image.movedim(2, 0).float() / 255.0 - mean) / std)[None]
        try:
            with self.autocast():
                outputs = self.run(images_BCHW.contiguous().to(self.device))
        except torch.OutOfMemoryError:
            raise Failure(
                f"out of memory on {self.device} at {_text(size)}; give a smaller --size, or "
                "--device cpu"
            ) from None
        except (RuntimeError, ValueError) as error:
            height, width = self.config.data.size
            raise UserError(
                f"the image size must fit the network, got {_text(size)} ({in_a_line(error)}); "
                f"give another by --size, e.g. {height}x{width}, as it was trained"
            ) from None
        return {task: output.float() for task, output in outputs.items()}


def load_network(path: Path, device: str) -> Network:
    """Load a model.pt, the folder that has one, a trial, or the folder of a shipped model.

    The folder may be named by its model.onnx. device: "auto", "cpu" or "cuda". Raises `UserError`
    for anything else.
    """
    require_reachable(path)
    folder = path.parent if path.name == "model.onnx" else path
    if (folder / "model.onnx").is_file() and (folder / "ship.json").is_file():
        return _shipped(folder, device)
    if not model_file(path).is_file():
        raise not_there(path, f"{WANTED}, or the folder that `ship` wrote")
    return _trained(path, device)


def _trained(path: Path, device: str) -> Network:
    resolved = resolve_device(device)
    prepare_device(resolved)
    trained = load_model(path, resolved)
    trained.registry.apply_to_weights()  # a model.pt of another origin may hold pruned values
    training = trained.config.training
    # In the layout, and so with the last bits, of its evaluation.
    model = placed(trained.model, resolved, channels_last=training.channels_last)
    return Network(
        run=model,
        config=trained.config,
        image_mean=trained.image_mean,
        image_std=trained.image_std,
        device=resolved,
        autocast=autocast_factory(resolve_precision(training.precision, resolved), resolved),
    )


def _shipped(folder: Path, device: str) -> Network:
    require_packages("onnxruntime")
    if device == "auto":
        device = "cpu"  # what it was verified on
    require_runtime("onnxruntime", device, 1)
    rule = f"{str(folder)!r} must be what `ship` wrote, got"
    try:
        about: dict[str, Any] = json.loads((folder / "ship.json").read_text())
        config = TrialConfig.from_dict(about["config"])
        mean, std = tuple(about["image_mean"]), tuple(about["image_std"])
    except UserError as error:  # of another version, or a user's own network without its code
        raise UserError(
            f"{rule} a ship.json that cannot be used ({error}); ship it again"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{rule} a ship.json that is not whole; ship it again") from None
    try:
        network = OnnxModel(
            (folder / "model.onnx").read_bytes(), device=device, threads=torch.get_num_threads()
        )
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime's errors are of many kinds
        raise UserError(
            f"{rule} a model.onnx that is not whole ({in_a_line(error)}); ship it again"
        ) from None
    return Network(
        run=network,
        config=config,
        image_mean=mean,
        image_std=std,
        device="cpu",  # images and predictions; the file runs where it was opened
        fixed_size=network.image_size,
    )


def _text(size: Size | None) -> str:
    return "" if size is None else f"{size[0]}x{size[1]} (height x width)"
