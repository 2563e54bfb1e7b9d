"""`--settings` of `search baselines`: settings by method from a file, and which have no effect."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.plans.plan import Plan
from spaces.presets import without_effect
from trainables.errors import UserError

Settings = Mapping[str, Sequence[Mapping[str, Any]]]  # variants by method


def ignored(plan: Plan, settings: Settings) -> list[str]:
    """What of `--settings` has no effect, one line each: a mistake perhaps, but no error."""
    assert plan.grid is not None
    lines = [f"{m} is not among the systems" for m in settings if m not in plan.grid.methods]
    for cell in plan.grid.cells():
        if cell.seed != plan.grid.seeds[0]:
            break
        try:
            config = plan.config(cell.params, cell.seed)
        except UserError:  # the trial fails and says why
            continue
        own = [name for name in cell.params if name not in ("method", "sparsity.target")]
        lines += [f"{config.method} does not read {n}" for n in without_effect(config, own)]
    return list(dict.fromkeys(lines))


def read_settings(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """A file of settings: one JSON object, by method one object of settings or a list of them.

    `{"snip": {"optimiser.learning_rate": 0.001}, "rigl": [{"regrowth.fraction": 0.3},
    {"regrowth.fraction": 0.5}]}`. Raises `UserError` for anything else; what the names and
    values mean is not looked at.
    """
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(
            f"`--settings` must be a file to read, got {str(path)!r} ({error.strerror})"
        ) from None
    except ValueError as error:
        raise _not_settings(path, str(error)) from None
    if not isinstance(found, dict):
        raise _not_settings(path, f"holds {type(found).__name__}")
    settings = {}
    for method, given in found.items():
        variants = given if isinstance(given, list) else [given]
        if not variants or not all(isinstance(variant, dict) for variant in variants):
            raise _not_settings(path, f"{method}: {json.dumps(given)}")
        settings[method] = variants
    return settings


def _not_settings(path: str | Path, found: str) -> UserError:
    return UserError(
        f'`--settings` must hold {{"METHOD": {{"dotted.name": value}}}} or a list of such '
        f"settings, got {str(path)!r} ({found})"
    )
