"""Checks the names of studies."""

import re

from trainables.errors import UserError

_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def check_study_name(name: str) -> None:
    """Raise `UserError` for a name that could not be a folder beside the storage's own files."""
    if not _STUDY_NAME.fullmatch(name):
        raise UserError(
            "a study's name must be 1 to 63 letters, digits, '.', '_' or '-' and begin with a "
            f"letter or digit, got {name!r}; it becomes a folder and a tag"
        )
    if name in ("data", "mlartifacts") or name.startswith("mlflow.db"):
        raise UserError(
            "a study's name must not be one the storage folder uses itself (data, mlartifacts, "
            f"mlflow.db), got {name!r}; choose another --name"
        )
