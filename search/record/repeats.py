"""Find what was trained again at fresh seeds, by its settings: replicates are one configuration."""

import json
from collections.abc import Iterable, Mapping

from optuna.trial import FrozenTrial

from search.record.front import CONFIRMS, is_confirmation


def settings_by_number(trials: Iterable[FrozenTrial]) -> dict[int, str]:
    """Return each trial's configuration without its seed, as one text.

    A confirmation has that of the trial which it repeats, where that one is among them: a field of
    the configuration that is newer than the trial would otherwise part the two. A trial that was
    refused has no configuration and is like no other.
    """
    trials = list(trials)
    own = {trial.number: _settings(trial) for trial in trials}
    return {t.number: own.get(t.user_attrs.get(CONFIRMS, t.number), own[t.number]) for t in trials}


def repeats_of(trials: Iterable[FrozenTrial]) -> Mapping[int, list[FrozenTrial]]:
    """Return by the number of every trial the confirmations of its settings that have ended.

    Those of a replicate, with the same settings and another seed, are the trial's as well. One that
    was not trained again is left out, and so are the confirmations themselves.
    """
    trials = list(trials)
    settings = settings_by_number(trials)
    ended: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        if is_confirmation(trial) and "status" in trial.user_attrs:
            ended.setdefault(settings[trial.number], []).append(trial)
    own = [t.number for t in trials if not is_confirmation(t)]
    return {number: ended[settings[number]] for number in own if settings[number] in ended}


def _settings(trial: FrozenTrial) -> str:
    config = trial.user_attrs.get("config", {"refused": trial.number})
    return json.dumps({**config, "seed": None}, sort_keys=True)
