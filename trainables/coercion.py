"""Turns plain values into typed dataclasses and back, for `config`.

Strings come from the command line and are converted to the type of their field.
"""

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from trainables.errors import UserError, unknown_name

_SCALARS = (str, int, float, type(None))
# Examples of values on the command line, for messages.
_SCALAR_EXAMPLES = {bool: "true", float: "0.5", str: "NAME"}
_TUPLE_EXAMPLES = {
    "data.size": "120x160",
    "data.crop": "112x144",
    "data.scale_range": "0.5,1.5",
    "data.tasks": "segmentation,depth",
}


def to_plain(value: Any) -> Any:
    """Return dataclasses as dicts and tuples as lists, ready for JSON."""
    if isinstance(value, _SCALARS):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return [to_plain(v) for v in value]
    return value


def build(cls: type, values: Any, prefix: str) -> Any:
    """Build the dataclass `cls` from a mapping, whose values may already be dataclasses.

    prefix: its dotted name in messages. Raises `UserError` for values that do not fit.
    """
    hints = _hints(cls)
    if not isinstance(values, Mapping):
        raise UserError(
            f"`{prefix.rstrip('.') or cls.__name__}` must be a mapping of settings, "
            f"got {values!r}; give names and values, as `TrialConfig.to_dict` does"
        )
    unknown = set(values) - set(hints)
    if unknown:
        raise unknown_name("setting", f"{prefix}{min(unknown)}", (f"{prefix}{n}" for n in hints))
    missing = sorted(_required(cls) - set(values))
    if missing:
        raise UserError(
            f"settings missing: {', '.join(prefix + m for m in missing)}; "
            "start from a preset (`spaces.presets.trial_config`), which sets them all"
        )
    return cls(**{n: _coerce(hints[n], v, f"{prefix}{n}") for n, v in values.items()})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Return the type hints of a dataclass, cached because a study builds thousands of configs."""
    return get_type_hints(cls)


@functools.cache
def _required(cls: type) -> set[str]:
    return {f.name for f in fields(cls) if f.default is dataclasses.MISSING}


def _coerce(hint: Any, value: Any, name: str) -> Any:
    """Return `value` as the annotated type; strings come from the command line."""
    if type(value) is hint:
        return value
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, f"{name}.")
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() == "none"):
            return None
        return _coerce(next(a for a in arguments if a is not type(None)), value, name)
    if origin is tuple:
        return _coerce_tuple(arguments, value, name)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise UserError(
                f"`{name}` must be a mapping, got {value!r}; set {name}.NAME for one entry"
            )
        return {k: _coerce(arguments[1], v, f"{name}.{k}") for k, v in value.items()}
    return _coerce_scalar(hint, value, name)


def _coerce_tuple(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    example = _TUPLE_EXAMPLES.get(name, "1,2,1,1")
    if isinstance(value, str):
        separator = "x" if name in ("data.size", "data.crop") else ","
        value = [part.strip() for part in value.strip("()[] ").split(separator) if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise UserError(f"`{name}` must be a list, got {value!r}; e.g. {name}={example}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise UserError(
            f"`{name}` must have {len(arguments)} items, got {value!r}; e.g. {name}={example}"
        )
    return tuple(_coerce(a, v, name) for a, v in zip(arguments, value, strict=True))


def _coerce_scalar(hint: type, value: Any, name: str) -> Any:
    if hint is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
    elif hint is int:
        return whole_number(name, value)
    elif hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    elif hint is str and isinstance(value, str):
        return value
    raise UserError(
        f"`{name}` must be of type {hint.__name__}, got {value!r}; "
        f"e.g. {name}={_SCALAR_EXAMPLES[hint]}"
    )


def whole_number(name: str, value: Any) -> int:
    """Return `value`, a number or text without a fraction (`1e2` included), as an int.

    Raises `UserError`, naming the setting, for anything else.
    """
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            # Avoid float where possible: it rounds above 2^53.
            if isinstance(value, (int, str)) and _is_int(value):
                return int(value)
            if float(value).is_integer():
                return int(float(value))
    raise UserError(f"`{name}` must be a whole number, got {value!r}; e.g. {name}=100")


def _is_int(value: int | str) -> bool:
    try:
        int(value)
    except ValueError:
        return False
    return True
