"""Reads `--settings` of `search baselines`, and says which of them have no effect."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.plans.plan import TARGET, Plan
from spaces.presets import without_effect
from trainables.errors import UserError

Settings = Mapping[str, Sequence[Mapping[str, Any]]]  # variants by method


def ignored(plan: Plan, settings: Settings) -> list[str]:
    """Return what of `--settings` has no effect, a line each: a mistake perhaps, but no error."""
    assert plan.grid is not None
    lines = [f"{m} is not among the systems" for m in settings if m not in plan.grid.methods]
    for params in plan.grid.params():
        try:
            config = plan.config(params, plan.seed)
        except UserError:  # the trial fails and says why
            continue
        own = [name for name in params if name not in ("method", TARGET)]
        lines += [f"{config.method} does not read {n}" for n in without_effect(config, own)]
    return list(dict.fromkeys(lines))


def read_settings(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Return the settings in a file: a JSON object of one set, or a list of sets, by method.

    `{"snip": {"optimiser.learning_rate": 0.001}, "rigl": [{"regrowth.fraction": 0.3},
    {"regrowth.fraction": 0.5}]}`. Raises `UserError` for anything else; what the names and
    values mean is not looked at.
    """
    try:
        found = json.loads(Path(path).read_text())
        if not isinstance(found, dict):
            raise ValueError(f"holds {type(found).__name__}")
        variants = {m: own if isinstance(own, list) else [own] for m, own in found.items()}
        for method, sets in variants.items():
            if not sets or not all(isinstance(own, dict) for own in sets):
                raise ValueError(f"{method}: {json.dumps(found[method])}")
    except OSError as error:
        raise UserError(
            f"`--settings` must be a file to read, got {str(path)!r} ({error.strerror})"
        ) from None
    except ValueError as error:
        raise UserError(
            f'`--settings` must hold {{"METHOD": {{"dotted.name": value}}}} or a list of such '
            f"settings, got {str(path)!r} ({error})"
        ) from None
    return variants
