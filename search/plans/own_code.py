"""Makes modules of a user's own importable: those that lie beside a recipe's file."""

import os
import sys


def make_importable(folder: str | None) -> None:
    """Let this process, and those that it starts, import the modules in `folder`.

    What is importable already keeps its place: the folder is looked at last. None changes nothing.
    """
    if folder is None or folder in sys.path:
        return
    sys.path.append(folder)
    known = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (known, folder) if part)
