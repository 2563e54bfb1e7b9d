"""Says what an option must be, and what was given, where Typer refuses a value."""

import contextlib
from collections.abc import Iterator

import typer

_RULES = {"int": "a whole number", "float": "a number"}  # by how the kinds of mistakes begin


@contextlib.contextmanager
def plainly_refused() -> Iterator[None]:
    """Put a refused value's message in our words, the value among them."""
    try:
        yield
    except typer.BadParameter as error:
        mistakes = getattr(error.__cause__, "errors", None)  # of a pydantic.ValidationError
        if mistakes is not None:
            (mistake, *_) = mistakes()
            rule = _RULES.get(str(mistake["type"]).partition("_")[0])
            said = f"must be {rule}" if rule else mistake["msg"]
            error.message = f"{said}, got {mistake['input']!r}"
        raise
