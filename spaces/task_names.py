"""Turns the tasks that a user asks for into short names and import paths."""

from collections.abc import Sequence

from spaces.dataset_defaults import DatasetDefaults
from trainables.errors import UserError, unknown_name
from trainables.registry.lookup import DATASET, TASK
from trainables.registry.tasks import TASKS


def resolve_tasks(
    dataset: str,
    defaults: DatasetDefaults,
    asked: str | Sequence[str] | None,
    own_tasks: str | Sequence[str] = (),
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the asked tasks, and the import paths of those that are not built in.

    asked: names of tasks of the data set, of installed packages or of `own_tasks`, and import
      paths `package.module:TASK`, as a sequence or joined by commas; None for all that the data
      set trains by default.
    own_tasks: import paths of more tasks that may be named, in the same form.
    Raises `UserError` for a task that does not exist, and if no task is asked for.
    """
    references = (*DATASET.find(dataset).tasks, *_listed(own_tasks))
    # A user's own tasks go by the names in their descriptions, built-in ones by their names.
    paths = {TASK.find(r).name: TASK.path(r) for r in references if r not in TASKS}
    chosen = defaults.tasks if asked is None else _listed(asked)
    if not chosen:
        raise UserError(f"`--tasks` must name the tasks of {dataset}, got none; e.g. --tasks depth")
    names, own = [], []
    for entry in chosen:
        if entry in paths:
            name, path = entry, paths[entry]
        elif entry in TASKS:
            if entry not in defaults.loss_weights:
                raise unknown_name(f"task of {dataset}", entry, {*defaults.loss_weights, *paths})
            names.append(entry)
            continue
        elif ":" in entry or TASK.is_installed(entry):
            name, path = TASK.find(entry).name, TASK.path(entry)
        else:
            raise unknown_name(f"task of {dataset}", entry, {*defaults.loss_weights, *paths})
        names.append(name)
        own.append(path)
    return tuple(names), tuple(own)


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    entries = value.split(",") if isinstance(value, str) else value
    return tuple(entry.strip() for entry in entries if entry.strip())
