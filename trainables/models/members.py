"""Checks the members of a user's network: its parts, tasks, owners, and what the loop may read."""

import inspect
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from trainables.errors import UserError, unknown_name
from trainables.models.base import SHARED
from trainables.user_code import calling

_WRAPPERS = {"module": "nn.DataParallel", "_orig_mod": "torch.compile"}  # by their one part


def require_members(name: str, model: object, num_channels: Mapping[str, int]) -> None:
    """Raise `UserError` unless a built network has the members of a `MultitaskModel`.

    name: the model's, for messages.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model {name!r} must return a torch.nn.Module, got {type(model).__name__}; "
            "return the network from the factory"
        )
    _require_tree(name, model)
    _require_plain(name, model)
    tasks = getattr(model, "tasks", None)
    if not isinstance(tasks, (tuple, list)) or set(tasks) != set(num_channels):
        raise UserError(
            f"model {name!r} must have `tasks` = {tuple(num_channels)}, got {tasks!r}; "
            "take them from the keys of num_channels"
        )
    owners = getattr(model, "owners", None)
    if not callable(owners):
        raise UserError(
            f"model {name!r} must have a method owners() -> {{parameter name: task or {SHARED!r}}}"
        )
    with calling(f"owners() of model {name!r}", model):
        owned = owners()
    _require_owners(name, owned, model, tuple(tasks))
    if "tasks" not in inspect.signature(model.forward).parameters:
        raise UserError(
            f"model {name!r} must have forward(images, tasks=None), "
            f"got forward{inspect.signature(model.forward)}; add the parameter `tasks`"
        )
    _require_rates(name, model)
    _require_channels(name, model)


def _require_tree(name: str, model: nn.Module) -> None:
    """Raise `UserError` for a part that contains itself, which every walk would follow for ever."""
    above: dict[int, str] = {}  # the parts around the one at hand, by the tables of their parts
    clear: set[int] = set()

    def enter(path: str, module: nn.Module) -> None:
        # Not `named_children()`, which refuses a weak reference to a module. The table is the same
        # object through such a reference, and tells what it stands for.
        parts = module._modules
        if id(parts) in above:
            whole = f"`{above[id(parts)]}`" if above[id(parts)] else "the model itself"
            raise UserError(
                f"model {name!r}: no part may contain itself, but `{path}` is {whole} again; keep "
                "a reference to it in a list or tuple, which makes it no part"
            )
        if id(parts) in clear:
            return
        above[id(parts)] = path
        for leaf, part in parts.items():
            if part is not None:
                enter(f"{path}.{leaf}" if path else leaf, part)
        del above[id(parts)]
        clear.add(id(parts))

    enter("", model)


def _require_plain(name: str, model: nn.Module) -> None:
    """Raise `UserError` for a network in a wrapper, whose parameters have other names."""
    package = type(model).__module__.partition(".")[0]
    first = next((leaf for leaf, _ in model.named_children()), "") if package == "torch" else ""
    wrapper = _WRAPPERS.get(first)
    if wrapper is not None:
        raise UserError(
            f"model {name!r} must be the network itself, got it in {type(model).__name__} "
            f"({wrapper}); return what that wraps"
            + ("; its method compile() compiles it in place" if "compile" in wrapper else "")
        )


def _require_owners(name: str, owners: object, model: nn.Module, tasks: tuple[str, ...]) -> None:
    if not isinstance(owners, Mapping):
        raise UserError(f"model {name!r}: owners() must return a dict, got {type(owners).__name__}")
    # A tied parameter has several names, each of which will do.
    names = {n: id(p) for n, p in model.named_parameters(remove_duplicate=False)}
    known = {names[parameter] for parameter in owners if parameter in names}
    missing = [n for n, p in model.named_parameters() if id(p) not in known]
    if missing:
        raise UserError(
            f"model {name!r}: owners() must name every parameter, {len(missing)} are missing, "
            f"first {missing[0]!r}; use the names of named_parameters()"
        )
    stray = [parameter for parameter in owners if parameter not in names]
    if stray:
        raise unknown_name(f"parameter in owners() of model {name!r}:", stray[0], names)
    for parameter, owner in owners.items():
        if owner != SHARED and owner not in tasks:
            raise unknown_name(f"owner of {parameter} in model {name!r}:", owner, (SHARED, *tasks))


def _require_rates(name: str, model: nn.Module) -> None:
    """Raise `UserError` unless factors on the learning rate are numbers, by parameter name."""
    rule = f"learning_rate_scales() of model {name!r}"
    scales = _declared(rule, model, "learning_rate_scales")
    names = [parameter for parameter, _ in model.named_parameters(remove_duplicate=False)]
    for parameter, scale in scales.items():
        if parameter not in names:
            raise unknown_name(f"parameter in {rule}:", parameter, names)
        number = isinstance(scale, Real) and 0 <= float(scale) < math.inf
        if not number:
            raise UserError(
                f"{rule} must hold factors of at least 0, got {scale!r} for {parameter}; "
                "1 leaves its learning rate as it is"
            )


def _require_channels(name: str, model: nn.Module) -> None:
    """Raise `UserError` unless what a network says of its channels names parameters and layers."""
    rule = f"channel_parameters() of model {name!r}"
    parameters = _declared(rule, model, "channel_parameters")
    rule_of_subspaces = f"channel_subspaces() of model {name!r}"
    subspaces = _declared(rule_of_subspaces, model, "channel_subspaces")
    if not parameters and not subspaces:
        return
    layers = [path for path, module in model.named_modules() if _has_weight(module)]
    shapes = {n: 0 if is_lazy(p) else p.dim() for n, p in model.named_parameters()}
    for parameter, value in parameters.items():
        if parameter not in shapes:
            raise unknown_name(f"parameter in {rule}:", parameter, shapes)
        pair = value if isinstance(value, Sequence) and len(value) == 2 else (None, None)
        if pair[0] not in range(-shapes[parameter], shapes[parameter]) or pair[1] not in layers:
            raise UserError(
                f"{rule} must hold (dimension, layer) for {parameter}, got {value!r}; name one of "
                f"its {shapes[parameter]} dimensions, from 0, and a layer with a weight"
            )
    for layer, count in subspaces.items():
        if layer not in layers:
            raise unknown_name(f"layer in {rule_of_subspaces}:", layer, layers)
        if not isinstance(count, Integral) or count < 1:
            raise UserError(
                f"{rule_of_subspaces} must hold numbers of subspaces, got {count!r} for {layer}; "
                "1 is the whole"
            )


def _has_weight(module: nn.Module) -> bool:
    # Not by `hasattr`: to read a computed weight may change what it is computed from.
    held = {**vars(module), **dict(module.named_buffers(recurse=False))}
    held |= dict(module.named_parameters(recurse=False, remove_duplicate=False))
    return "weight" in held or parametrize.is_parametrized(module, "weight")


def _declared(rule: str, model: nn.Module, member: str) -> Mapping[str, object]:
    method = getattr(model, member, None)
    if method is None:
        return {}
    with calling(rule, model):
        found: object = method()
    if not isinstance(found, Mapping):
        raise UserError(f"{rule} must return a dict, got {type(found).__name__}; {{}} says nothing")
    return found
