"""The errors a user can cause, told apart from our own bugs.

Command-line entry points turn a `UserError` into one message on stderr and exit
code 2, without a traceback. Anything else is a failure (exit code 1).
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake the user can mend: the message names the rule, the value and the remedy."""


class Failure(RuntimeError):
    """Neither the user's mistake nor our bug: a diverged loss, no memory left."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """The error for a name that a registry does not hold; lists the valid ones."""
    names = sorted(valid)
    close = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UserError(f"unknown {kind} {name!r}; valid: {', '.join(names)}.{hint}")
