"""The errors a user can cause, told apart from our own bugs.

Command-line entry points turn a `UserError` into one message on stderr and exit
code 2, without a traceback. Anything else is a failure (exit code 1).
"""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class UserError(ValueError):
    """A mistake that the user can correct; the message names the rule, the value and the remedy."""


class Failure(RuntimeError):
    """Neither the user's mistake nor our bug: a diverged loss, no memory left."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """The error for a name that a registry does not hold; lists the valid ones."""
    names = sorted(valid)
    close = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UserError(f"unknown {kind} {name!r}; valid: {', '.join(names)}.{hint}")


def is_full_disk(error: BaseException | str) -> bool:
    """Whether the disk is to blame, by an exception or by what was said of one.

    PyTorch has no exception of its own for that, and not all libraries keep the number.
    """
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return True
    said = str(error)
    known = (*map(os.strerror, _FULL_DISK), "PytorchStreamWriter failed writing")
    return any(words in said for words in known)
