"""Find what was trained again at fresh seeds, by its settings, in a study's record."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from search.record.front import CONFIRMS, is_confirmation
from trainables.report import REACHED_THE_END

FAILED = "failed"
# Seed, status and metrics of what has ended, by the configuration without its seed.
Repeats = Mapping[str, Sequence[tuple[int, str, Mapping[str, float]]]]


def repeats_of(trials: Sequence[FrozenTrial]) -> Repeats:
    """Return the confirmations that have ended. What did not run to its end has failed."""
    of = {t.number: settings_of(t.user_attrs.get("config", {})) for t in trials}
    found: dict[str, list[tuple[int, str, Mapping[str, float]]]] = {}
    for trial in trials:
        if is_confirmation(trial) and "status" in trial.user_attrs:
            status, metrics = trial.user_attrs["status"], trial.user_attrs.get("metrics", {})
            reached = status in REACHED_THE_END
            ended = found.setdefault(of[trial.user_attrs[CONFIRMS]], [])
            seed = trial.user_attrs["config"]["seed"]
            ended.append((seed, status, metrics) if reached else (seed, FAILED, {}))
    return found


def settings_of(config: Mapping[str, Any]) -> str:
    """Return a configuration without its seed, as one text."""
    return json.dumps({n: value for n, value in config.items() if n != "seed"}, sort_keys=True)
