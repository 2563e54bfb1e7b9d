"""Confirmations: trials of a study that are trained again at fresh seeds. No Ray here.

The front was chosen by values at one seed, and the best of many is partly the luckiest. So its
members, and the dense reference, are trained at seeds that the study has not used, the same ones
for every member. Their spread says how noisy each objective is. Then follow the trials that this
noise may have kept off the front.

A confirmation is a trial of the record like any other, with its own number and the attribute
`CONFIRMS`, the number of the trial that it repeats. It is on no front, counts against no budget,
and neither sampler nor scheduler learns of it.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from search.plans.plan import Plan
from search.record.files.study_folder import again
from search.record.front import CONFIRMS, is_complete, is_confirmation
from search.record.repeats import settings_by_number
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.report import describe
from trainables.seeds import derive_seed
from trainables.terminal.as_typed import DEFAULT_STORAGE
from trainables.terminal.plurals import counted

# A trial is a neighbour of the front where this many standard deviations, in every noisy objective
# at once, would have put it there: that of the difference between two trainings.
_REACH = math.sqrt(2)
_SEEDS = 1_000_000  # fresh ones are below: short enough to be read and typed


def confirmations_due(
    plan: Plan,
    trials: Sequence[FrozenTrial],
    front: Sequence[int],
    num_seeds: int,
    *,
    used: float,
    storage: Path | str = DEFAULT_STORAGE,
) -> tuple[list[tuple[FrozenTrial, int]], str]:
    """Return which trials are to be trained at which seeds now, seed by seed; and that in words.

    trials: all of the study, confirmations included. front: its numbers. used: of the budget.
    storage: the folder of the study's folder, for messages.

    As long as confirmations of the front are due or at work, only those are returned. Afterwards
    the neighbours follow, at most as many as the front has members, the nearest first. What the
    study has is never returned again; the words count those that an interrupted driver left.

    Raises `UserError` for a study that has not ended, or whose front is empty.
    """
    own = [t for t in trials if not is_confirmation(t)]
    _check_ended(plan, own, front, used, storage)
    repeats = [t for t in trials if is_confirmation(t)]
    seeds = _fresh_seeds(plan.seed, {int(t.user_attrs["seed"]) for t in own}, num_seeds)
    settings = settings_by_number(trials)
    known = {(settings[t.number], int(t.user_attrs["seed"])) for t in repeats}

    def missing(wanted: Sequence[FrozenTrial]) -> list[tuple[FrozenTrial, int]]:
        lacking = ((t, seed) for seed in seeds for t in wanted)
        return [(t, seed) for t, seed in lacking if (settings[t.number], seed) not in known]

    def distinct(wanted: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        # Replicates at other seeds are one to confirm: that of the lowest number.
        descending = sorted(wanted, key=lambda t: -t.number)
        return list({settings[t.number]: t for t in descending}.values())[::-1]

    members = distinct([t for t in own if t.number in front or _is_dense_reference(t)])
    on_front = [t for t in members if t.number in front]
    keys = {settings[t.number] for t in members}
    begun = [t for t in repeats if not t.state.is_finished()]  # of an interrupted driver
    due, where = missing(members), "the front"
    then = f"; then up to {len(on_front) * num_seeds} of trials that noise may have kept off it"
    if not due and all(settings[t.number] not in keys for t in begun):
        then, where = "", "what noise may have kept off the front"
        again_at = [t for t in repeats if settings[t.number] in keys]
        noise = noise_of(again_at, plan.objectives, settings)
        others = distinct([t for t in own if settings[t.number] not in keys and is_complete(t)])
        due = missing(_neighbours(on_front, others, plan.objectives, noise))
    if not due and not begun:
        return due, ""
    count = len(due) + len(begun)
    numbers = {trial.number for trial, _ in due} | {t.user_attrs[CONFIRMS] for t in begun}
    return due, (
        f"study {plan.study} confirms {where} at {num_seeds} fresh seeds: "
        f"{counted(count, 'training')} of trial{'s' if len(numbers) > 1 else ''} "
        f"{', '.join(map(str, sorted(numbers)))}, about "
        f"{_expected_minutes(own, count):.2g} minutes one after another{then}"
    )


def given_again(trial: FrozenTrial, seed: int) -> dict[str, Any]:
    """Return what a confirmation of `trial` is given: the recorded configuration at another seed.

    As a reference it is never stopped early, and no other trial is compared with it.
    """
    config = TrialConfig.from_dict(trial.user_attrs["config"]).replace({"seed": seed})
    given = {"params": trial.user_attrs["params"], "seed": seed, "config": config.to_dict()}
    return given | {"reference": True, CONFIRMS: trial.number}


def _check_ended(
    plan: Plan,
    own: Sequence[FrozenTrial],
    front: Sequence[int],
    used: float,
    storage: Path | str,
) -> None:
    study = plan.study
    if used < plan.budget.amount or not all(t.state.is_finished() for t in own):
        raise UserError(
            f"a study to confirm must have ended, got {study!r} with {used:g} of "
            f"{plan.budget.text} used; `{again('resume', study, storage)}` goes on with it"
        )
    if not front:
        raise UserError(
            f"a study to confirm must have a front, got {study!r} with no complete trial among "
            f"{len(own)}; trials.parquet holds the reasons, "
            f"`{again('extend', study, storage)} {plan.budget.option} MORE` goes on with it"
        )


def noise_of(
    repeats: Sequence[FrozenTrial], objectives: Sequence[str], settings: Mapping[int, str]
) -> list[float]:
    """Return each objective's standard deviation over seeds, pooled over the configurations.

    settings: by number, of `settings_by_number`. It is 0 where no configuration ended at two seeds.
    """
    groups: dict[str, list[Sequence[float]]] = {}
    for trial in repeats:
        if trial.values:  # it ran to its end
            groups.setdefault(settings[trial.number], []).append(trial.values)
    squares, degrees = np.zeros(len(objectives)), 0
    for values in groups.values():
        of_group = np.asarray(values, dtype=float)
        squares += ((of_group - of_group.mean(axis=0)) ** 2).sum(axis=0)
        degrees += len(of_group) - 1
    return [math.sqrt(square / max(1, degrees)) for square in squares]


def _expected_minutes(trials: Sequence[FrozenTrial], count: int) -> float:
    """Return how long `count` trainings take, by the median of those that ran to their end."""
    took = [
        (t.datetime_complete - t.datetime_start).total_seconds() / 60
        for t in trials
        if is_complete(t) and t.datetime_complete and t.datetime_start
    ]
    return count * statistics.median(took) if took else 0.0


def _neighbours(
    front: Sequence[FrozenTrial],
    others: Sequence[FrozenTrial],
    objectives: Sequence[str],
    noise: Sequence[float],
) -> list[FrozenTrial]:
    """Return the `others` within reach of the front, the nearest first.

    The distance to a member that dominates a trial is the least number of standard deviations, in
    all noisy objectives at once, by which the trial has to be better for that to end.
    """
    signs = np.asarray([describe(name).sign for name in objectives])
    noisy = np.asarray(noise) > 0
    if not noisy.any():
        return []
    members_FM = np.asarray([t.values for t in front]) * signs
    found = []
    for trial in others:
        behind_FM = np.asarray(trial.values) * signs - members_FM
        dominating = (behind_FM >= 0).all(axis=1)
        steps_FM = behind_FM[dominating][:, noisy] / np.asarray(noise)[noisy]
        distance = float(steps_FM.min(axis=1).max(initial=0.0))
        if distance <= _REACH:
            found.append((distance, trial.number, trial))
    return [trial for _, _, trial in sorted(found, key=lambda f: f[:2])[: len(front)]]


def _fresh_seeds(study_seed: int, used: Collection[int], count: int) -> list[int]:
    seeds: list[int] = []
    index = 0
    while len(seeds) < count:
        seed = derive_seed(study_seed, "confirmations", index) % _SEEDS
        index += 1
        if seed not in used and seed not in seeds:
            seeds.append(seed)
    return seeds


def _is_dense_reference(trial: FrozenTrial) -> bool:
    given = trial.user_attrs
    dense = given["reference"] and given.get("config", {}).get("method") == "dense"
    return bool(dense and trial.values)
