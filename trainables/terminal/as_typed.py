"""Writes commands and paths as somebody in the present folder has to type them."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

DEFAULT_STORAGE = "runs"  # of --storage, in every command
_PLAIN = re.compile(r"(?<![\w/.-])python -m ")  # and not `.venv/bin/python -m `


def as_typed(path: Path) -> str:
    """Return a path as it is typed in the present folder: from there if it lies below."""
    full, here = Path(os.path.abspath(path)), Path.cwd()
    return str(full.relative_to(here) if full.is_relative_to(here) else full)


def python() -> str:
    """Return the Python that runs this, as it is typed: `.venv/bin/python`, `python` or its path.

    A virtual environment's Python is a link to another one's, whose packages are others: so it is
    known by its folder.
    """
    ours = Path(sys.executable)
    typed = as_typed(ours)
    found = shutil.which("python") if Path(typed).is_absolute() else None
    if found and Path(found).parent == ours.parent and Path(found).samefile(ours):
        return "python"
    return shlex.quote(typed)


def command(program: str, *arguments: str) -> str:
    """Return for example ".venv/bin/python -m trainables list methods".

    program: a module and its command, "trainables list". arguments: as they are, here quoted.
    """
    return f"{python()} -m {shlex.join([*program.split(), *arguments])}"


def in_text(text: str | None) -> str:
    """Return a text about commands, which says `python -m`, as they have to be typed here."""
    return _PLAIN.sub(lambda _: f"{python()} -m ", text or "")


def study_command(program: str, name: str, storage: Path, *arguments: str) -> str:
    """Return for example ".venv/bin/python -m search confirm demo --seeds 5 --storage elsewhere".

    name: the study's, in the folder `storage`, which is said unless it is the default one.
    """
    where = as_typed(storage)
    return command(
        program, name, *arguments, *([] if where == DEFAULT_STORAGE else ["--storage", where])
    )
