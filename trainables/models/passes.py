"""Runs a network forward and backward; what a user's own raises or returns amiss is said once.

Our own networks are run without checks, and their errors pass unchanged.
"""

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainables.errors import UserError
from trainables.user_code import calling, described, is_interruption, is_ours, is_users_file

# As torch's anomaly mode writes the forward call behind a failed backward pass.
_CALL = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_REMEDY = "mend it there, or choose another size or batch"
_CHANNELS_LAST = f"{_REMEDY}; where `view` fails, set training.channels_last=false"


def predict(
    model: nn.Module,
    images_BCHW: Tensor,
    tasks: Sequence[str],
    forward: Callable[..., Any] | None = None,
) -> dict[str, Tensor]:
    """Return the predictions of `tasks`, (B, channels, h, w) by task.

    forward: what to call in place of the model, with the images: its forward method with chosen
    tasks. Raises `UserError` for a user's model that raises, that lacks a task or whose prediction
    of one is no tensor of four dimensions, of real numbers, for the batch.
    """
    size = "x".join(map(str, images_BCHW.shape))
    what = f"model {described(model)!r}, given images of shape {size},"
    with calling(what, model, lambda error: _remedy(model, error)):
        found = (model if forward is None else forward)(images_BCHW)
    if not is_ours(model):
        require_predictions(model, found, tasks, images_BCHW)
    return dict(cast(Mapping[str, Tensor], found))


def _remedy(model: nn.Module, error: BaseException) -> str:
    """Return what to do about a failed pass, by what may have failed it.

    Images are float32. Channels-last weights give outputs of that layout, which `view` refuses.
    """
    weights = [p for p in model.parameters() if p.is_floating_point() and not is_lazy(p)]
    # Torch says "type" or "dtype" of numbers that do not fit together.
    if "type" in str(error) and any(weight.dtype != torch.float32 for weight in weights):
        return f"{_REMEDY}; images are float32, so build the network in it (`.float()`)"
    if any(weight.dim() == 4 and not weight.is_contiguous() for weight in weights):
        return _CHANNELS_LAST
    return _REMEDY


def require_predictions(
    model: nn.Module, found: object, tasks: Sequence[str], images_BCHW: Tensor
) -> None:
    """Raise `UserError` unless `found` has a tensor (B, channels, h, w) for each task."""
    batch_size = len(images_BCHW)
    rule = f"model {described(model)!r}: forward must return a dict with the keys {tuple(tasks)}"
    if not isinstance(found, Mapping):
        raise UserError(f"{rule}, got {type(found).__name__}; return {{task: prediction}}")
    missing = [task for task in tasks if task not in found]
    if missing:
        raise UserError(f"{rule}, got {tuple(found)}; return a prediction of {missing[0]}")
    for task in tasks:
        value = found[task]
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if not isinstance(shape, tuple) or len(shape) != 4 or shape[0] != batch_size:
            raise UserError(
                f"model {described(model)!r}: the prediction of {task} must be a tensor of shape "
                f"({batch_size}, channels, h, w), got {shape}; return one, at any output stride"
            )
        if value.device != images_BCHW.device:
            raise UserError(
                f"model {described(model)!r}: the prediction of {task} must be on the images' "
                f"device, {images_BCHW.device}, got {value.device}; leave it there"
            )
        if not value.is_floating_point():
            raise UserError(
                f"model {described(model)!r}: the prediction of {task} must be of floating-point "
                f"numbers, got {value.dtype}; return scores or values, which have a gradient"
            )


def require_dense_gradients(model: nn.Module, gradients: Mapping[str, Tensor | None]) -> None:
    """Raise `UserError` if a gradient in a user's model, by parameter name, is a sparse tensor.

    Scores, masks, clipping and the optimisers work on all entries of a gradient.
    """
    if is_ours(model):
        return
    for name, gradient in gradients.items():
        if gradient is not None and gradient.layout is not torch.strided:
            raise UserError(
                f"model {described(model)!r}: the gradient of `{name}` must be dense, got one of "
                f"layout {gradient.layout}; leave out `sparse=True` (of nn.Embedding), and "
                "hold sparse parameters as dense ones"
            )


@contextlib.contextmanager
def differentiating(
    model: nn.Module, owners: Sequence[object], again: Callable[[], Tensor]
) -> Iterator[None]:
    """Turn what a backward pass raises into a `UserError`, if the model or a task is a user's own.

    PyTorch runs backward passes without the user's lines in the traceback. So the loss is computed
    once more, in anomaly mode, which remembers them.

    owners: the tasks. again: computes the loss, a scalar.
    """
    try:
        yield
    except BaseException as error:
        theirs = [owner for owner in (model, *owners) if not is_ours(owner)]
        if not theirs or is_interruption(error):
            raise
        place = _place_of(again, model)
        what = f"the backward pass of model {described(model)!r}{place}"
        with calling(what, theirs[0]):
            raise


def _place_of(again: Callable[[], Tensor], model: nn.Module) -> str:
    """Return the user's line whose backward pass fails, with its part of the network, or ''."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            with torch.autograd.set_detect_anomaly(True, False):
                again().backward()
        except BaseException as error:  # expected: it is the failure once more
            if is_interruption(error):
                raise
    calls = [call for warning in said for call in _CALL.findall(str(warning.message))]
    for file, line, function in reversed(calls):
        if is_users_file(file):
            part = _part_with(model, file, int(line), function)
            return f", of the call at {Path(file).name}:{line}{f' in {part}' if part else ''},"
    return ""


def _part_with(model: nn.Module, file: str, line: int, function: str) -> str:
    """Return the parts of a network, by name and class, whose method holds a line; '' if none."""
    names, kind = [], ""
    for name, module in model.named_modules():
        code = getattr(getattr(type(module), function, None), "__code__", None)
        if code is None or code.co_filename != file:
            continue
        if any(line == each for _, _, each in code.co_lines()):
            names.append(f"`{name}`" if name else "the model itself")
            kind = type(module).__name__
    return f"{' or '.join(names)} ({kind})" if names else ""
