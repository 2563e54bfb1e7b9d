"""Draws the line between our code and a user's own: models, tasks, methods and data sets.

Whatever a user's own code raises becomes one `UserError` that says what was run, the part of the
network or the function that raised, and the line. The error itself stays behind it as its cause;
command lines show its traceback with `--debug`. Our own errors pass unchanged.
"""

import contextlib
import functools
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, FrameType, FunctionType, MethodType
from typing import Any

from trainables.errors import Failure, UserError, is_full_disk, is_out_of_memory

OUR_PACKAGES = ("trainables", "spaces", "search", "analysis")
SEE_TRACEBACK = "--debug shows the whole traceback"

_ROOT = Path(__file__).parents[1]
_OURS = tuple(_ROOT / package for package in OUR_PACKAGES)
_STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
_CACHED = type(functools.cache(len))  # its class has no public name
_FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, _CACHED)
_MAX_CHARACTERS = 400  # of an error's text; libraries append whole manuals


def is_ours(value: object) -> bool:
    """Return whether an object's class, or a class or function, is part of this project."""
    return _package_of(value) in OUR_PACKAGES


def described(value: object) -> str:
    """Return the import path of an object's class, for messages: `my_lab.networks:UNet`."""
    return f"{type(value).__module__}:{type(value).__qualname__}"


@contextlib.contextmanager
def calling(
    what: str, owner: object, remedy: str | Callable[[BaseException], str] = "mend it there"
) -> Iterator[None]:
    """Turn whatever the block raises into a `UserError`, if `owner` is a user's own.

    The block must only call the owner's code. what: what is called, for the message. owner: a
    model, a task, a method or a source, or its class; the errors of ours pass unchanged.
    `UserError`, a full disk and a lack of memory pass, too. remedy: text, or what makes it of the
    error, so that a block which succeeds costs nothing.
    """
    try:
        yield
    except BaseException as error:
        if is_ours(owner) or _passes(error):
            raise
        said = remedy if isinstance(remedy, str) else remedy(error)
        raise UserError(_message(what, error, owner, said)) from error


@contextlib.contextmanager
def running(owners: Mapping[str, object], remedy: str = "mend it there") -> Iterator[None]:
    """Turn an error out of a user's own code, which the block calls now and then, into a message.

    owners: what may be a user's own, by what a message calls it; it is read when the block raises.
    An error is theirs if its traceback passes through their package, or a part of their network.
    """
    try:
        yield
    except BaseException as error:
        if _passes(error):
            raise
        for what, owner in owners.items():
            if not is_ours(owner) and _passed_through(error, owner):
                raise UserError(_message(what, error, owner, remedy)) from error
        raise


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception is no error of any code: Ctrl-C, or a trial's end from outside.

    Anything else that a user's own code raises is an error of it, `GeneratorExit` and what derives
    from `BaseException` alone included.
    """
    if isinstance(error, (Exception, SystemExit)):
        return False
    return isinstance(error, KeyboardInterrupt) or is_ours(error)


def told(error: BaseException, package: str = "") -> str:
    """Return an error's type, its text in one line and, where known, the user's line.

    package: the top-level package whose line is wanted; without it the innermost line outside of
    ours, Python's and installed packages', or else outside of ours and Python's.
    """
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text[:_MAX_CHARACTERS]}" if text else type(error).__name__
    places = [
        (_package_in(frame), frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    for found in (
        [place for place in places if package and place[0] == package],
        [place for place in places if is_users_file(place[1])],
        [place for place in places if not _is_known(place[1])],
    ):
        if found:
            return f"{said} ({Path(found[-1][1]).name}:{found[-1][2]})"
    return said


def bug(error: BaseException) -> str:
    """Return the message for an error that is ours alone, with the line of ours that raised it."""
    lines = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _package_in(frame) in OUR_PACKAGES or frame.f_globals.get("__name__") == "__main__"
    ]
    place = ""
    if lines:
        file, line = lines[-1]
        shown = file.relative_to(_ROOT) if _ROOT in file.parents else file.name
        place = f" ({shown}:{line})"
    text = " ".join(str(error).split())[:_MAX_CHARACTERS]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return (
        f"this is a bug of disparse-search: {said}{place}; run again with --debug and report what "
        "it prints"
    )


def _message(what: str, error: BaseException, owner: object, remedy: str) -> str:
    part = _part_of(error, owner)
    where = f" in {part}" if part else ""
    return f"{what} raised{where} {told(error, _package_of(owner))}; {remedy}; {SEE_TRACEBACK}"


def _passes(error: BaseException) -> bool:
    """Return whether an error says what is the matter already, or is of the machine."""
    if isinstance(error, FloatingPointError):  # of ours, it becomes a loss that diverged
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        return _package_in(frames[-1]) in OUR_PACKAGES
    known = isinstance(error, (UserError, Failure)) or is_interruption(error)
    return known or is_full_disk(error) or is_out_of_memory(error)


def _passed_through(error: BaseException, owner: object) -> bool:
    package = _package_of(owner)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(_package_in(frame) == package for frame in frames) or bool(_part_of(error, owner))


def _part_of(error: BaseException, owner: object) -> str:
    """Return the innermost part of a network that was at work, by name and class; '' without one.

    The frames of the traceback tell: a part's methods have it as their `self`.
    """
    if not hasattr(type(owner), "named_modules"):  # of the class: attributes may run code
        return ""
    network: Any = owner
    names = {id(module): name for name, module in network.named_modules()}
    at_work = [
        frame.f_locals["self"]
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if id(frame.f_locals.get("self")) in names
    ]
    if not at_work:
        return ""
    kind, name = type(at_work[-1]).__name__, names[id(at_work[-1])]
    return f"`{name}` ({kind})" if name else f"the model itself ({kind})"


def _package_of(value: Any) -> str:
    # Not by `hasattr`, which runs code of the user's.
    of_itself = isinstance(value, (type, *_FUNCTIONS))
    module = getattr(value if of_itself else type(value), "__module__", None)
    return str(module or "").partition(".")[0]


def _package_in(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def is_users_file(name: str) -> bool:
    """Return whether a frame's file is neither of ours, of Python, nor of an installed package."""
    return not _is_known(name) and not _is_installed(name)


def _is_known(name: str) -> bool:
    """Return whether a file is of this project, of Python itself, or none at all."""
    parents = Path(name).parents
    if name.startswith("<") or any(folder in parents for folder in _OURS):
        return True
    return _STANDARD_LIBRARY in parents and not _is_installed(name)  # which may lie below it


def _is_installed(name: str) -> bool:
    return bool({"site-packages", "dist-packages"} & {*Path(name).parts})
