"""Defines the errors that are not bugs of ours.

Command-line entry points turn a `UserError` into one message on stderr and exit
code 2, without a traceback. Anything else is a failure (exit code 1).
"""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches

_FEW = 24  # names that a message can list beside its point
_LISTED = {  # by `trainables list`, under another name each
    "method": "methods",
    "model": "models",
    "data set": "datasets",
    "task": "tasks",
    "metric": "metrics",
    "cost metric": "metrics",
}
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """Reports a mistake the user can correct; the message names rule, value and remedy."""


class Failure(RuntimeError):
    """Reports what is neither the user's mistake nor our bug: a diverged loss, no memory left."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """Return the error for a name that a registry does not hold; it lists the valid names.

    A close one comes first. It stands for a list that would fill the screen, where a command lists.
    """
    names = sorted(valid)
    close = get_close_matches(str(name), names, n=1)
    if not close:
        return UserError(f"unknown {kind} {name!r}; valid: {', '.join(names)}.")
    rest = f" Valid: {', '.join(names)}."
    if len(names) > _FEW and kind in _LISTED:
        rest = f" `python -m trainables list {_LISTED[kind]}` lists them all."
    return UserError(f"unknown {kind} {name!r}. Did you mean {close[0]!r}?{rest}")


def in_a_line(error: BaseException) -> str:
    """Return an error's type and the first sentence of its text, for a message of ours."""
    lines = str(error).strip().splitlines()
    # Libraries go on with advice to whoever calls them, which a user of ours cannot follow.
    return (
        f"{type(error).__name__}: {lines[0].partition('. ')[0]}" if lines else type(error).__name__
    )


def is_full_disk(error: BaseException | str) -> bool:
    """Return whether an exception, or its text, means that the disk is full.

    PyTorch has no exception of its own for that, and not all libraries keep the error number.
    """
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return True
    said = str(error)
    known = (*map(os.strerror, _FULL_DISK), "PytorchStreamWriter failed writing")
    return any(words in said for words in known)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out, on any device."""
    # torch.OutOfMemoryError is a RuntimeError; the CPU's allocator raises a plain one.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
    )
