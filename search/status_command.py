"""Reads the command line of `python -m search status`."""

from typing import Annotated, Any

import typer

from search.options import JsonOption, StorageOption, StudyStorageOption
from trainables.terminal.answers import STDOUT, write_json


def status(
    name: Annotated[str | None, typer.Argument(help="A study; without it, list them.")] = None,
    storage: StorageOption = "runs",
    study_storage: StudyStorageOption = None,
    json_file: JsonOption = None,
) -> None:
    """Say how a study stands, or list the studies; change nothing.

    \b
    Examples:
      python -m search status
      python -m search status demo --json
    """
    from search.messages import status_lines
    from search.record.study_status import all_studies, study_status

    if name is None:
        found: dict[str, Any] = {"studies": all_studies(storage)}
        lines = found["studies"].values() or [f"no study in {storage!r}"]
    else:
        found = study_status(storage, name, study_storage=study_storage)
        lines = status_lines(found, storage)
    if json_file is not None:
        write_json(json_file, found)
    for line in () if json_file == STDOUT else lines:
        typer.echo(line)
