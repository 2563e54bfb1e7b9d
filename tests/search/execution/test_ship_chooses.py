"""`search ship` takes what `analysis pick` takes, of a front, a confirmed front and a grid."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.statistics.reasons import Standing
from analysis.studies.trials import Trial
from search.execution import ship as shipping
from search.execution.ship import Wanted
from search.record.files.study_folder import read_json
from search.record.files.trials_table import write_trials
from search.record.outcomes import Outcome
from tests.analysis.test_command_line import run
from tests.search.plans.small_grid import cells_of, small
from tests.search.studies import driver_of
from tests.search.tracking.mlflow_files import LENGTHS, Recorded
from trainables.errors import UserError
from trainables.terminal.as_typed import python


def chosen(study: Recorded, wanted: Wanted) -> tuple[Trial, tuple[str, ...], Standing]:
    """What `search ship` takes of a study, why, and what fresh seeds say of it."""
    trials = study.record.trials()
    recorded = shipping._recorded(study.files, read_json(study.files.description), trials)
    return shipping._chosen(recorded, trials, wanted)


def test_where_all_fresh_trainings_failed_the_card_says_so(tmp_path: Path) -> None:
    study = Recorded(tmp_path)
    study.end(study.begin("snip", {"seed": 0, **LENGTHS}), quality=0.5)
    for seed in (7, 8):
        study.end(study.begin("snip", {"seed": seed, **LENGTHS}, confirms=0), "failed")
    study.begin("snip", {"seed": 9, **LENGTHS}, confirms=0)  # still at work
    trial, _, standing = chosen(study, Wanted(out=tmp_path))
    assert (standing.runs.metrics, standing.runs.num_failed) == ({}, 2)
    own = ([trial.metrics], "the selected seed (2 fresh ones failed)")
    assert shipping._statistics(trial.metrics, [], 2) == own


def test_without_a_complete_trial_the_command_that_goes_on_is_said(tmp_path: Path) -> None:
    study = Recorded(tmp_path)
    with pytest.raises(UserError) as caught:
        chosen(study, Wanted(out=tmp_path))
    assert f"`{python()} -m search resume s --storage {tmp_path}` goes on" in str(caught.value)


def test_a_confirmed_front_is_chosen_from_by_its_means_over_fresh_seeds(tmp_path: Path) -> None:
    study = Recorded(tmp_path)
    settings = [{"method": m, "seed": 0, **LENGTHS} for m in ("dense", "snip", "rigl")]
    for config, quality, density in zip(settings, (0.5, 0.49, 0.48), (1.0, 0.4, 0.2), strict=True):
        study.end(study.begin(config["method"], config), quality=quality, density=density)
    wanted = Wanted(out=tmp_path, max_loss=5.0, best="cost/density")

    def taken() -> int:
        trial, *_ = chosen(study, wanted)
        assert trial.metrics[study.plan.objectives[0]] == (0.5, 0.49, 0.48)[trial.number]
        return trial.number

    def standing(asked: Wanted = wanted) -> Standing:
        return chosen(study, asked)[2]

    assert taken() == 2
    assert standing().sentences() == []  # nothing is confirmed, and nobody says it is
    # At fresh seeds the cheapest loses 10 %: it was lucky.
    for seed in (7, 8):
        for of, quality, density in ((0, 0.5, 1.0), (1, 0.49, 0.4), (2, 0.45, 0.2)):
            assert taken() == 2  # until all of the front is confirmed at two seeds
            number = study.begin(settings[of]["method"], {**settings[of], "seed": seed}, of)
            study.end(number, quality=quality, density=density)
    assert taken() == 1
    assert standing().sentences() == []
    # A new member of the front, not confirmed yet: values at selection decide, and it says so.
    study.end(study.begin("set", {"seed": 0, **LENGTHS}), quality=0.3, density=0.1)
    assert taken() == 2
    new, said_of_it = standing().sentences()
    assert new.startswith("1 of the 4 models on the front is not confirmed (s-00009), so values")
    assert f"-m search confirm s --seeds 2 --storage {tmp_path}` confirms it" in new
    assert said_of_it.startswith("at 2 fresh seeds: segmentation 10 % worse, ")
    assert said_of_it.endswith(", beside the dense model; it misses segmentation/miou>=95%")
    asked = replace(wanted, max_loss=None, best=None, trial=2)
    (said,) = standing(asked).sentences()
    assert said.startswith("at 2 fresh seeds: segmentation 10 % worse, ")


ASKED: Sequence[dict[str, Any]] = (
    {},
    {"best": "segmentation/miou"},
    {"max_loss": 5.0, "best": "cost/density"},
    {"where": ("cost/density<0.5",)},
    {"where": ("segmentation/miou>=93%",), "best": "cost/density"},
)


def check_pick_agrees(
    study: Recorded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[tuple[int, bool]]:
    """Return which trial each condition takes, and whether by fresh seeds; pick takes the same."""
    ended = [trial for trial in study.record.trials() if trial.state.is_finished()]
    write_trials(study.files.trials, "s", ended)
    taken = []
    for asked in ASKED:
        trial, why, standing = chosen(study, Wanted(out=study.files.directory, **asked))
        options = [word for where in asked.get("where", ()) for word in ("--where", where)]
        options += ["--max-loss", str(asked["max_loss"])] if "max_loss" in asked else []
        options += ["--best", asked["best"]] if "best" in asked else []
        command = ("pick", "s", "--storage", study.files.storage, *options)
        assert run(monkeypatch, *command, "--json", "-") == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["trial"], answer["number"]) == (trial.trial, trial.number)
        said = standing.to_json()  # the losses among them
        assert {name: answer[name] for name in said} == said
        assert answer["chosen_by_fresh_seeds"] == standing.by_fresh
        assert run(monkeypatch, *command) == 0
        assert why[0] in capsys.readouterr().out
        taken.append((trial.number, standing.by_fresh))
    return taken


def test_pick_takes_the_same_of_a_confirmed_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of rigl's three trainings has an objective that is no number, which is a failure."""
    study = Recorded(tmp_path)
    values = {"dense": (0.5, 1.0), "snip": (0.48, 0.4), "rigl": (0.47, 0.2), "set": (0.3, 0.1)}
    for method, (quality, density) in values.items():
        number = study.begin(method, {"seed": 0, **LENGTHS})
        study.end(number, quality=quality, density=density)
    before = check_pick_agrees(study, monkeypatch, capsys)
    assert not any(by_fresh for _, by_fresh in before)
    miou = study.plan.objectives[0]
    for of, (method, (quality, density)) in enumerate(values.items()):
        for seed in (7, 8, 9):
            number = study.begin(method, {"seed": seed, **LENGTHS}, of)
            odd = {miou: math.nan} if (method, seed) == ("rigl", 9) else {}
            study.end(number, quality=quality - 0.001 * of, density=density, further=odd)
        now = check_pick_agrees(study, monkeypatch, capsys)
        assert all(by_fresh == (method == "set") for _, by_fresh in now)
    trial, _, standing = chosen(study, Wanted(out=tmp_path, max_loss=7.0, best="cost/density"))
    assert (trial.number, sorted(standing.runs.metrics), standing.runs.num_failed) == (2, [7, 8], 1)
    assert standing.losses[miou] == pytest.approx(100 * (0.5 - 0.468) / 0.5)


def test_pick_takes_the_same_of_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Systems are compared by their means: rigl's second seed, the best of all, was a lucky one."""
    methods = ("dense", "snip", "rigl")
    plan = small(methods=methods, sparsities=(0.8,), seeds=2, study="s")
    study = Recorded(tmp_path, plan=plan)
    qualities = {"dense": (0.5, 0.52), "snip": (0.48, 0.47), "rigl": (0.4, 0.53)}
    ledger = driver_of(plan, study.record)
    seeds = sorted({seed for seed, *_ in cells_of(plan)})
    while (assignment := ledger.next()) is not None:
        method, seed = assignment.config.method, assignment.config.seed
        values = (qualities[method][seeds.index(seed)], 20.0, 1.0, 1 if method == "dense" else 0.2)
        metrics = dict(zip(plan.objectives, values, strict=True))
        outcome = Outcome(status="complete", reason="", metrics=metrics, fraction=1.0)
        ledger.finish(assignment.number, outcome)
    taken = check_pick_agrees(study, monkeypatch, capsys)
    by_number = {t.number: t.user_attrs["config"]["method"] for t in study.record.trials()}
    best = next(number for number, asked in zip(taken, ASKED, strict=True) if "where" in asked)
    assert by_number[best[0]] == "snip"
    lucky = chosen(study, Wanted(out=tmp_path, trial=max(by_number)))[0]
    assert lucky.number == max(by_number)  # a trial that is named is no system
