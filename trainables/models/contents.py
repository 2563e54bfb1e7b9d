"""Checks what a user's network holds: parameters that can be trained, masked, saved and loaded."""

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from trainables.errors import UserError
from trainables.user_code import calling


def require_contents(name: str, model: nn.Module) -> None:
    """Raise `UserError` unless a network's parameters and state are what a trial can work with.

    Trained parameters hold real numbers, each in memory of its own, and `state_dict()` gives
    tensors under the names of all of them. Layers that learn their shape from the first image are
    passed.

    name: the model's, for messages.
    """
    places: dict[int, str] = {}
    for path, parameter in model.named_parameters():
        if is_lazy(parameter) or not parameter.numel():
            continue
        if parameter.is_meta:
            raise UserError(
                f"model {name!r} must hold values, but `{path}` is on the meta device; build it "
                "on the CPU"
            )
        if parameter.layout is not torch.strided:
            raise UserError(
                f"model {name!r} must hold dense parameters, but `{path}` has layout "
                f"{parameter.layout}; hold it as a dense one (.to_dense())"
            )
        if parameter.is_inference():
            raise UserError(
                f"model {name!r} must hold parameters that can be trained, but `{path}` was made "
                "under torch.inference_mode; build the network outside of it"
            )
        if parameter.requires_grad and not parameter.is_floating_point():
            raise UserError(
                f"model {name!r} must train real numbers, but `{path}` is {parameter.dtype}; hold "
                "real and imaginary parts in one more dimension (torch.view_as_complex), or "
                "freeze it"
            )
        if _repeats(parameter):
            raise UserError(
                f"model {name!r} must hold every weight in memory of its own, but entries of "
                f"`{path}` share theirs (expand); add .clone()"
            )
        other = places.setdefault(parameter.data_ptr(), path)
        if other != path:
            raise UserError(
                f"model {name!r} must hold every weight in memory of its own, but `{other}` and "
                f"`{path}` share theirs; make them one nn.Parameter, which ties them, or add "
                ".clone()"
            )
    _require_state(name, model)


def require_same_parameters(name: str, before: dict[str, int], model: nn.Module) -> None:
    """Raise `UserError` if a pass through a network has made or replaced parameters.

    The optimiser and the masks know those alone that the network was built with.

    before: what `identities` gave before the pass.
    """
    after = identities(model)
    if after == before:
        return
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    raise UserError(
        f"model {name!r}: forward must use the parameters that the network was built with, but it "
        f"makes, replaces or removes `{changed[0]}`; make layers in __init__, those of unknown "
        "shape by torch.nn's Lazy ones"
    )


def identities(model: nn.Module) -> dict[str, int]:
    """Return by name which object each parameter is."""
    return {path: id(parameter) for path, parameter in model.named_parameters()}


def require_shapes(name: str, model: nn.Module) -> None:
    """Raise `UserError` for a layer that should have learnt its shape from an image and has not."""
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            layer = path.rpartition(".")[0] or path
            raise UserError(
                f"model {name!r} must have a shape for every parameter after one image, but "
                f"forward never ran `{layer}`; call it there, leave it out, or give its shape"
            )


def _require_state(name: str, model: nn.Module) -> None:
    rule = f"state_dict() of model {name!r}"
    with calling(rule, model):
        state = dict(model.state_dict())
    strange = [path for path, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        kind = type(state[strange[0]]).__name__
        raise UserError(
            f"{rule} must hold tensors alone, got {kind} for {strange[0]!r}; keep it in a buffer, "
            "or as an attribute that __init__ makes anew"
        )
    missing = [path for path, _ in model.named_parameters() if path not in state]
    if missing:
        raise UserError(
            f"{rule} must hold every parameter, {len(missing)} are missing, first "
            f"{missing[0]!r}; return what nn.Module returns"
        )


def _repeats(tensor: Tensor) -> bool:
    """Return whether several entries of a tensor lie in one place of memory."""
    return any(
        stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
