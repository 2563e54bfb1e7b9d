"""Says in one line what a Python lacks that cannot run this project. Needs nothing itself."""

import contextlib
import sys
from collections.abc import Iterator

OURS = ("trainables", "spaces", "search", "analysis", "benchmarks", "tests")


def lacking(error: ModuleNotFoundError) -> str:
    """Return the message for a package that is not there; '' for a module of ours: a bug."""
    name = (error.name or "").partition(".")[0]
    if not name or name in OURS:
        return ""
    return (
        f"error: the Python in use must have the package {name!r}, which {sys.executable} lacks; "
        "run `make setup` once, then use .venv/bin/python"
    )


@contextlib.contextmanager
def packages_needed() -> Iterator[None]:
    """Wrap the imports of a command line: what is not there ends it in one message, exit code 2."""
    try:
        yield
    except ModuleNotFoundError as error:
        message = lacking(error)
        if not message:
            raise
        print(message, file=sys.stderr)
        raise SystemExit(2) from None
