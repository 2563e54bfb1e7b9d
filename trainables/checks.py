"""Checks settings and raises errors that name the rule, the value and the remedy."""

import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from trainables.errors import UserError, unknown_name


def require(condition: bool, rule: str, value: object, remedy: str) -> None:
    """Raise `UserError` unless the condition holds."""
    if not condition:
        raise UserError(f"{rule}, got {value!r}; {remedy}")


def choice(field: str, value: str, valid: tuple[str, ...]) -> None:
    """Raise `UserError` unless the value is one of the valid ones."""
    if value not in valid:
        raise unknown_name(field, value, valid)


def fraction(field: str, value: float, *, closed_above: bool = True) -> None:
    """Raise `UserError` unless the value is in [0, 1], or in [0, 1) without `closed_above`."""
    ok = math.isfinite(value) and value >= 0.0 and (value <= 1.0 if closed_above else value < 1.0)
    bracket = "]" if closed_above else ")"
    require(ok, f"`{field}` must be in [0, 1{bracket}", value, "give a fraction of one")


def parse_share(text: str, option: str) -> float:
    """Read a share of one, "0.9" or "90%"; raise `UserError` for what is no number."""
    try:
        said = Decimal(text.strip().removesuffix("%").strip())  # 99.9 % is exactly 0.999
        return float(said / 100 if text.strip().endswith("%") else said)
    except InvalidOperation:
        raise UserError(
            f"`{option}` must be a share of one, such as 0.9 or 90%, got {text!r}; correct it"
        ) from None


def at_least(field: str, value: float, low: float) -> None:
    """Raise `UserError` unless the value is finite and at least `low`."""
    ok = math.isfinite(value) and value >= low
    require(ok, f"`{field}` must be at least {low}", value, "raise it")


def positive(field: str, value: float) -> None:
    """Raise `UserError` unless the value is finite and above zero."""
    ok = math.isfinite(value) and value > 0
    require(ok, f"`{field}` must be > 0 and finite", value, "give a positive number")


def require_given_once(
    settings: Mapping[str, Any], options: Mapping[str, tuple[str, object]]
) -> None:
    """Raise `UserError` for a setting of `--set` that an option gives as well.

    options: by the setting's name, the option and its value; None where it was not given.
    """
    for name, (option, value) in options.items():
        if value is not None and name in settings:
            raise UserError(
                f"`{name}` must be given once, got {option} {value} and --set "
                f"{name}={settings[name]}; leave one out"
            )
