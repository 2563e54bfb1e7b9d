"""Holds what all command lines share: exit codes and how errors are shown.

Exit codes: 0 success; 1 failure; 2 a user's mistake (one message, no traceback); 130 interrupted.
"""

import contextlib
import errno
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainables.errors import Failure, UserError

EXIT_FAILURE = 1
EXIT_USER_MISTAKE = 2
EXIT_INTERRUPTED = 130

# `scheme://user:password@`. In an http or object-store address the password ends before the first
# slash. A database's driver takes everything up to the `@`, slashes included.
_PASSWORD = re.compile(
    r"((?:https?|s3|gs)://[^\s/?#:@]*):[^\s/?#]*@"
    r"|((?!https?:|s3:|gs:)\b[a-z][a-z0-9+.\-]*://[^\s/?#:@]*):\S*@",
    re.IGNORECASE,
)
# `?password=…`, `&sslpassword=…`, `&access_token=…`
_SECRET_ARGUMENT = re.compile(
    r"([?&][\w.\-]*(?:password|passwd|pwd|token|secret)[\w.\-]*=)[^&#\s'\"]+", re.IGNORECASE
)


def run_command_line(main: Callable[[], object]) -> None:
    """Run a command line's entry point and turn its errors into a message and an exit code."""
    try:
        main()
    except UserError as error:
        _leave(f"error: {error}", EXIT_USER_MISTAKE)
    except Failure as error:
        _leave(f"failed: {error}", EXIT_FAILURE)
    except KeyboardInterrupt:
        _leave("interrupted", EXIT_INTERRUPTED)
    except SystemExit as ended:
        if ended.code == EXIT_INTERRUPTED:
            # A second Ctrl-C during cleanup would only add a traceback.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
                _leave("interrupted", EXIT_INTERRUPTED)  # Typer prints nothing
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _leave(f"failed: no space left on the disk ({error}); free some and resume", EXIT_FAILURE)


def _leave(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.stdout.flush()
    raise SystemExit(code)


def masked(uri: str) -> str:
    """Return `uri`, or any text with addresses in it, with `***` for every password.

    Use it for everything that is printed, written or shown. Text without a password is returned
    unchanged.
    """
    hidden = _PASSWORD.sub(lambda match: f"{match[1] or match[2]}:***@", uri)
    return _SECRET_ARGUMENT.sub(r"\1***", hidden)


def parse_settings(
    items: Sequence[str],
    *,
    form: str = "key=value",
    example: str = "optimiser.learning_rate=0.001",
) -> dict[str, str]:
    """Parse `["a=1", "b.c=x"]` into `{"a": "1", "b.c": "x"}`; raise `UserError` for other forms."""
    settings = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or not name.strip():
            raise UserError(f"`--set` takes {form}, got {item!r}; e.g. --set {example}")
        settings[name.strip()] = value.strip()
    return settings


def parse_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Parse "120x160" into (height, width) in pixels; raise `UserError` for other forms."""
    height, separator, width = text.lower().partition("x")
    if not separator or not height.isdecimal() or not width.isdecimal():
        raise UserError(f"`{option}` must be HEIGHTxWIDTH, got {text!r}; e.g. 120x160")
    return int(height), int(width)


def write_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, complete or not at all, with null for NaN and infinity."""
    target = Path(path)
    text = json.dumps(finite(value), indent=2, allow_nan=False) + "\n"
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
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


def require_writable(folder: Path, option: str) -> None:
    """Raise `UserError` unless files can be written to `folder`, which is created if missing.

    Long commands call it first, so that they fail before the work and not after it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"`{option}` must be writable, got {str(folder)!r} ({error.strerror}); "
            "choose another folder"
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
