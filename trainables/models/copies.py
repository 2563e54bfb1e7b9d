"""Copies a network, and runs one without leaving a trace in it.

A user's network may hold anything: one module under two names, tensors that `forward` keeps,
counters, lists. What is measured on it must not show in what is trained.
"""

import contextlib
import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.errors import UserError, in_a_line
from trainables.user_code import is_interruption


def copy_of(model: nn.Module, *, meta: bool = False) -> nn.Module:
    """Return a copy that shares no tensor with the network; what is one tensor there is one here.

    meta: its tensors have shapes and no values, so that it takes no memory and computes nothing.

    Tensors of a graph that `forward` has kept come as plain values. Raises `UserError` for a
    network that holds what cannot be copied, such as a lock.
    """
    held = [tensor for module in model.modules() for tensor in tensors_in(vars(module))]
    memo: dict[int, Any] = {}
    for tensor in held:
        if meta:
            memo[id(tensor)] = _on_meta(tensor)
        elif not tensor.is_leaf:
            memo[id(tensor)] = tensor.detach().clone()
    try:
        # A scripted part is copied by an operation, whose results would not be leaves.
        with torch.no_grad():
            copied = copy.deepcopy(model, memo)
    except BaseException as error:  # whatever an object of the user's says to that
        if is_interruption(error):
            raise
        raise UserError(
            f"{type(model).__name__} must be a network that copy.deepcopy can copy, got "
            f"{in_a_line(error)}; keep locks, files and connections outside of it"
        ) from error
    if meta:
        copied.to("meta")  # what the memo does not reach: scripted parts
    before = model.named_parameters(remove_duplicate=False)
    after = copied.named_parameters(remove_duplicate=False)
    for (_, one), (_, other) in zip(before, after, strict=True):
        other.requires_grad_(one.requires_grad)
    return copied


@contextlib.contextmanager
def unchanged(model: nn.Module, *, parameters: bool = True) -> Iterator[None]:
    """Put everything back at the end that a pass through the network may change.

    That is: modes, buffers, gradients, what modules hold as plain attributes (tensors, counters,
    lists), and the random state of torch, NumPy and Python. parameters: their values too, which
    needs a copy of them; a pass that changes them is rare.
    """
    own = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    seen: set[int] = set()
    undo = [put_back for module in own for put_back in _undo(vars(module), seen)]
    # Scripted modules hold their state elsewhere.
    modes = [(module, module.training) for module in model.modules()]
    tensors = [buffer for buffer in model.buffers() if id(buffer) not in seen]
    tensors += list(model.parameters()) if parameters else []
    undo += [putting_back(tensor) for tensor in tensors]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None  # else a backward pass would add to what is kept
    with draws_put_back(model):
        try:
            yield
        finally:
            for put_back in undo:
                put_back()
            for module, training in modes:
                module.training = training
            for parameter, gradient in gradients:
                parameter.grad = gradient


@contextlib.contextmanager
def draws_put_back(model: nn.Module) -> Iterator[None]:
    """Put the random state of torch, on the network's devices too, NumPy and Python back."""
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def host_draws() -> dict[str, object]:
    """Return the states of the host's generators that a network usually draws from, by name."""
    kind, keys, position, *rest = np.random.get_state()
    return {
        "Python's `random`": random.getstate(),
        "`numpy.random`": (kind, np.asarray(keys).tobytes(), position, *rest),
        "torch on the CPU": torch.random.default_generator.get_state().numpy().tobytes(),
    }


def tensors_in(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested containers; other objects are not looked into."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from tensors_in(inner)
    elif isinstance(value, (list, tuple, set)):
        for inner in value:
            yield from tensors_in(inner)


def _on_meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _undo(value: Any, seen: set[int]) -> Iterator[Callable[[], None]]:
    """Yield what puts the contents of a value back: tensors, and containers with all in them."""
    if isinstance(value, (nn.Module, nn.Parameter)) or id(value) in seen:
        return  # they have their own turn
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield putting_back(value)
    elif isinstance(value, (dict, set)):
        contents = value.copy()

        def put_back() -> None:
            value.clear()
            value.update(contents)

        yield put_back
        for inner in list(contents.values()) if isinstance(contents, dict) else []:
            yield from _undo(inner, seen)
    elif isinstance(value, list):
        members = list(value)
        yield lambda: value.__setitem__(slice(None), members)
        for inner in members:
            yield from _undo(inner, seen)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _undo(inner, seen)


def putting_back(tensor: Tensor) -> Callable[[], None]:
    """Return what gives a tensor the values back that it has now, in the memory it has now."""
    # What has no memory of its own for every entry cannot be written to, here or in `forward`.
    dense = tensor.layout is torch.strided and not tensor.is_inference()
    if not dense or any(
        s == 0 for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1
    ):
        return lambda: None
    data = tensor.detach()  # of the same memory, whatever becomes of the tensor
    before = data.clone()

    def put_back() -> None:
        data.copy_(before)

    return put_back
