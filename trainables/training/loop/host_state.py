"""Finds out whether a pass through a network and its losses depends on the host alone.

A recorded step repeats what its kernels did and runs no line of Python. So a network cannot be
recorded if its pass waits for a value of the device, draws random numbers on the host, or changes
what modules or tasks hold besides the values of tensors.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from trainables.errors import UserError, is_out_of_memory
from trainables.models.copies import host_draws, unchanged
from trainables.tasks.base import Task
from trainables.user_code import described, is_ours, told

# What torch itself keeps in a module; parameters and buffers are looked at by name.
_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}


def why_not_replayable(model: nn.Module, tasks: Mapping[str, Task], run: Callable[[], None]) -> str:
    """Return why a pass could not be recorded and replayed, or ''.

    run: a forward and a backward pass in training mode, which raises where the host would wait for
    a value of the device. It leaves no trace: everything is put back, but not what a task holds.
    Our own networks and tasks are known to hold nothing that a step changes.
    """
    name = described(model)
    if not is_ours(model) and hasattr(model, "start_step"):
        return f"`start_step` of model {name!r} may change the network between steps"
    what = f"a pass through model {name!r} or its losses"
    on_host = next(model.parameters()).device.type == "cpu"
    with unchanged(model, parameters=False):
        before, drawn = _held_by(model, tasks), _draws(on_host)
        try:
            run()
        except Exception as error:
            if is_out_of_memory(error):
                raise
            cause = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
            return f"{what} does what cannot be recorded ({told(cause)})"
        after, drawn_after = _held_by(model, tasks), _draws(on_host)
    for generator, state in drawn.items():
        if drawn_after[generator] != state:
            return f"{what} draws random numbers of {generator}"
    changed = sorted(where for where in before | after if before.get(where) != after.get(where))
    if changed:
        return f"{what} changes {changed[0]}"
    return ""


def _draws(on_host: bool) -> dict[str, object]:
    """Return the states of the host's generators; torch's own if the network is elsewhere."""
    states = host_draws()
    if on_host:
        del states["torch on the CPU"]
    return states


def _held_by(model: nn.Module, tasks: Mapping[str, Task]) -> dict[str, object]:
    """Return what a user's modules and tasks hold, by where: plain values, and which tensors."""
    found: dict[str, object] = {}
    if not is_ours(model):
        for path, module in model.named_modules():
            of = f"`{path}`" if path else "the model itself"
            held = {n: v for n, v in vars(module).items() if n not in _OF_TORCH}
            held |= dict(module.named_parameters(recurse=False))
            held |= dict(module.named_buffers(recurse=False))
            found |= {f"`{n}` of {of}": tuple(_plain(v, 0)) for n, v in held.items()}
    for name, task in tasks.items():
        if not is_ours(task):
            held = getattr(task, "__dict__", {})
            found |= {f"`{n}` of task {name!r}": tuple(_plain(v, 0)) for n, v in held.items()}
    return found


def _plain(value: Any, depth: int) -> Iterator[object]:
    """Yield a value in pieces that can be compared; of other objects only which one it is."""
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        yield type(value), value
    elif isinstance(value, Tensor):
        yield "tensor", value.data_ptr(), tuple(value.shape)
    elif isinstance(value, Mapping) and depth < 4:
        for key, inner in value.items():
            yield repr(key)
            yield from _plain(inner, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)) and depth < 4:
        yield len(value)
        for inner in value:
            yield from _plain(inner, depth + 1)
    else:
        yield id(value)
