"""Write a command for a study as somebody in this folder has to type it."""

import os
import shlex
from pathlib import Path

DEFAULT_STORAGE = "runs"  # of --storage, in every command


def command_line(program: str, name: str, storage: Path, *arguments: str) -> str:
    """Return for example "python -m search confirm demo --seeds 5 --storage elsewhere".

    program: a module and its command, "search confirm". name: the study's, in the folder `storage`,
    which is said unless it is the default one; below the present folder as a path from there.
    """
    where = as_typed(storage)
    words = ["python", "-m", *program.split(), name, *arguments]
    return shlex.join(words + ([] if where == DEFAULT_STORAGE else ["--storage", where]))


def as_typed(path: Path) -> str:
    """Return a path as it is typed in the present folder: from there if it lies below."""
    full, here = Path(os.path.abspath(path)), Path.cwd()
    return str(full.relative_to(here) if full.is_relative_to(here) else full)
