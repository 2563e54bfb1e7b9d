"""Writes a command's answer: JSON to a file or to standard output, where other files may go too."""

import contextlib
import errno
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from trainables.errors import UserError

STDOUT = "-"  # as a file: standard output, which then holds nothing else
_ADDRESS = re.compile(r"[a-z][a-z0-9+.\-]+:/", re.IGNORECASE)
_answers: ContextVar[TextIO | None] = ContextVar("answers", default=None)


@contextlib.contextmanager
def only_answers() -> Iterator[None]:
    """Keep standard output for answers: a user's own code may print, and libraries do."""
    token = _answers.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _answers.reset(token)


def write_answer(text: str) -> None:
    """Write to standard output what `--json -` asks for."""
    (_answers.get() or sys.stdout).write(text)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, complete or not at all, with null for NaN and infinity.

    path: a file, or `-` for standard output.
    """
    target = Path(path)
    text = json.dumps(finite(value), indent=2, allow_nan=False) + "\n"
    if str(path) == STDOUT:
        write_answer(text)
        return
    try:
        if _is_special(target):  # a device or a pipe is written to, not replaced
            target.write_text(text)
            return
        target = Path(os.path.realpath(target))  # of a link, what it points to
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text)
            partial.replace(target)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"cannot write {str(target)!r}: {error.strerror}; name a writable file"
        ) from None


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def require_json(path: str | Path | None) -> None:
    """Raise `UserError` unless `--json` names a file that can be written, or `-`; None is none."""
    if path is None or str(path) == STDOUT or _is_special(Path(path)):
        return
    if Path(path).is_dir():
        raise UserError(f"`--json` must be a file, got the folder {str(path)!r}; name a file in it")
    require_writable(Path(path).parent, "--json")


def require_writable(folder: Path, option: str) -> None:
    """Raise `UserError` unless files can be written to `folder`, which is created if missing.

    Long commands call it first, so that they fail before the work and not after it. An address,
    of which `Path` has made a relative path, is refused too.
    """
    if _ADDRESS.match(str(folder)):
        raise UserError(
            f"`{option}` must be a local folder, got the address {str(folder)!r}; write to a "
            "local one, and copy it there"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(
            f"`{option}` must be writable, got {str(folder)!r} ({why}); choose another folder"
        ) from None


def finite(value: Any) -> Any:
    """Return what JSON can hold of a value: null for NaN and infinity, lists for tuples."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return value
