"""Finds where a network's values cease to be finite before it was trained at all."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from trainables.errors import UserError
from trainables.models.copies import putting_back, tensors_in, unchanged
from trainables.models.passes import predict
from trainables.user_code import described, is_ours


class Weights:
    """Holds a copy of a user's network's weights and buffers; of one of ours, known, none."""

    def __init__(self, model: nn.Module) -> None:
        held = () if is_ours(model) else (*model.parameters(), *model.buffers())
        self._undo = [putting_back(tensor) for tensor in held]

    def put_back(self) -> None:
        """Undo what a step has changed."""
        for put_back in self._undo:
            put_back()


def require_finite_predictions(model: nn.Module, images_BCHW: Tensor, tasks: Sequence[str]) -> None:
    """Raise `UserError` if a user's model predicts NaN or infinity, naming the part that began.

    The network is run as in training, and does not change. Our own networks are not run.
    """
    if is_ours(model):
        return
    began: list[str] = []
    with unchanged(model, parameters=False), torch.no_grad(), _watched(model, began):
        predictions = predict(model.train(), images_BCHW, tasks)
    for task in tasks:
        wrong = predictions[task][~predictions[task].isfinite()]
        if wrong.numel():
            raise UserError(
                f"model {described(model)!r}: the prediction of {task} must be finite, got "
                f"{float(wrong[0])} before any step of training, first "
                f"{f'out of {began[0]}' if began else 'in the model itself'}; mend it there, such "
                "as by a bound on what is divided by, or is under a root or a logarithm"
            )


@contextlib.contextmanager
def _watched(model: nn.Module, began: list[str]) -> Iterator[None]:
    """Collect the parts whose output is not finite although their input is, in order."""

    def watch(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def look(module: nn.Module, given: object, output: object) -> None:
            if _finite(given) and not _finite(output):
                began.append(f"`{name}` ({type(module).__name__})")

        return module.register_forward_hook(look)

    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [
        watch(name, module)
        for name, module in named
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _finite(value: object) -> bool:
    return all(
        bool(tensor.isfinite().all()) for tensor in tensors_in(value) if tensor.is_floating_point()
    )
