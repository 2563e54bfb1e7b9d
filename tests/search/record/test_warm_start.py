"""What other studies know, from their real records; see `search.record.warm_start`."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.plans.plan import Plan
from search.record.outcomes import Outcome
from search.record.storage import quiet
from search.record.study_folder import StudyFiles
from search.record.trials_table import write_trials
from search.record.warm_start import (
    Fetch,
    WarmTrial,
    read_snapshot,
    read_warm_trials,
    write_snapshot,
)
from tests.search import studies
from tests.search.studies import ledger_of
from trainables.errors import UserError

TRIALS = 10
STATUSES = {2: "stopped", 4: "failed", 5: "infeasible"}  # the others are complete


def plan_of(**arguments: Any) -> Plan:
    return studies.plan_of(**{"study": "new", **arguments})


def metrics_of(plan: Plan, number: int) -> dict[str, float]:
    return {name: 0.1 + 0.01 * number + 0.1 * i for i, name in enumerate(plan.objectives)}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> StudyFiles:
    """A study of ours named `old`: its Optuna storage and its table."""
    files = StudyFiles(storage=tmp_path_factory.mktemp("runs"), study="old")
    files.directory.mkdir()
    plan = plan_of(study="old", trials=TRIALS + 1)
    ledger = ledger_of(plan, files.default_study_storage)
    for number in range(TRIALS):
        assignment = ledger.next()
        assert assignment is not None
        status = STATUSES.get(number, "complete")
        outcome = Outcome(status=status, reason="", metrics=metrics_of(plan, number), fraction=1.0)
        ledger.finish(assignment.number, outcome)
    ledger.next()  # still at work
    write_trials(files.trials, "old", ledger.finished())
    return files


FINAL = [n for n in range(TRIALS) if n not in (2, 4)]


def no_mlflow(study: str, folder: Path) -> Path:
    raise UserError(f"there is no {study} in MLflow")


def read(
    files: StudyFiles, *sources: str, plan: Plan | None = None, fetch: Fetch = no_mlflow
) -> tuple[WarmTrial, ...]:
    plan = plan or plan_of()
    return read_warm_trials(
        sources,
        storage=files.storage,
        fetch=fetch,
        space=plan.space,
        objectives=plan.objectives,
    )


def test_from_a_folder_and_from_our_storage_the_same(earlier: StudyFiles) -> None:
    plan = plan_of()
    by_name = read(earlier, "old")
    by_path = read(earlier, str(earlier.directory))
    by_storage = read(earlier, f"{earlier.default_study_storage}#old")
    assert by_name == by_path
    for one, other in zip(by_name, by_storage, strict=True):  # the table says more of lengths
        assert one.metrics == other.metrics
        assert one.draw(plan.space) == other.draw(plan.space)
    assert [dict(t.metrics) for t in by_name] == [metrics_of(plan, n) for n in FINAL]
    assert by_name[0].params["method"] == "dense"
    draws = [trial.draw(plan.space) for trial in by_name]
    assert draws[0] is None  # the reference: no method that this space draws
    assert all(draw is not None for draw in draws[1:])
    assert read(earlier, "old", str(earlier.directory)) == by_name * 2


def test_conditional_parameters_come_as_they_were_drawn(earlier: StudyFiles) -> None:
    plan = plan_of()
    for trial in read(earlier, "old")[1:]:
        draw = trial.draw(plan.space)
        assert draw is not None
        drawn = {n: v for n, v in trial.params.items() if not n.startswith("training.")}
        assert draw.params == drawn
        grows = trial.params["method"] in ("rigl", "set", "disparse-dynamic")
        assert ("regrowth.fraction" in draw.distributions) == grows


def test_from_a_foreign_storage(tmp_path: Path) -> None:
    plan = plan_of()
    storage = f"sqlite:///{tmp_path / 'foreign.db'}"
    study = optuna.create_study(
        study_name="theirs", storage=storage, directions=["maximize", *["minimize"] * 3]
    )
    with quiet():
        study.set_metric_names(list(plan.objectives))
    values = [0.5, 20.0, 0.4, 0.1]

    def run(told: list[float] | None, state: TrialState, **more: Any) -> None:
        trial = study.ask()
        trial.suggest_categorical("method", ["snip", "magic"])
        trial.suggest_float("sparsity.target", 0.0, 1.0)
        trial.suggest_float("optimiser.learning_rate", 1e-5, 1e-1, log=True)
        trial.suggest_float("of their own", 0.0, 1.0)
        study.tell(trial, told, state)

    good = {"method": "snip", "sparsity.target": 0.8, "optimiser.learning_rate": 2e-3}
    for changes in (
        {},
        {"sparsity.target": 0.1},  # less than this study draws
        {"optimiser.learning_rate": 0.1},
        {"method": "magic"},
    ):
        study.enqueue_trial({**good, **changes})
        run(values, TrialState.COMPLETE)
    run(None, TrialState.FAIL)
    run(None, TrialState.PRUNED)
    study.ask()
    files = StudyFiles(storage=tmp_path, study="new")
    trials = read(files, f"{storage}#theirs")
    assert [dict(t.metrics) for t in trials] == [
        dict(zip(plan.objectives, values, strict=True))
    ] * 4
    draws = [trial.draw(plan.space) for trial in trials]
    assert [draw is not None for draw in draws] == [True, False, False, False]
    assert draws[0] is not None
    assert draws[0].params == good


def test_what_was_pruned_or_has_no_names_is_not_taken_for_final(tmp_path: Path) -> None:
    """Optuna gives a pruned trial of one objective the value it last reported."""
    storage = f"sqlite:///{tmp_path / 'single.db'}"
    files = StudyFiles(storage=tmp_path, study="new")
    study = optuna.create_study(study_name="one", storage=storage)
    trial = study.ask()
    trial.suggest_float("sparsity.target", 0.0, 1.0)
    trial.report(0.5, step=1)
    study.tell(trial, state=TrialState.PRUNED)
    assert study.trials[0].value == 0.5
    with pytest.raises(UserError, match=r"studies with complete trials, got .*#one' with none"):
        read(files, f"{storage}#one")
    study.tell(study.ask(), 1.0)
    with pytest.raises(UserError, match=r"name them with `study.set_metric_names`"):
        read(files, f"{storage}#one")


def test_from_mlflow_what_it_keeps_of_the_folder(earlier: StudyFiles, tmp_path: Path) -> None:
    """`search.tracking.connection.fetch_record` is tested with the projection."""
    asked = []

    def fetch(study: str, folder: Path) -> Path:
        asked.append(study)
        kept = folder / "record"
        kept.mkdir()
        shutil.copy(earlier.trials, kept)
        return kept

    assert read(earlier, "mlflow:old", fetch=fetch) == read(earlier, "old")
    assert asked == ["old"]
    with pytest.raises(UserError, match="there is no nobody in MLflow"):
        read(earlier, "mlflow:nobody")


def test_nothing_that_could_be_drawn_is_a_mistake(earlier: StudyFiles) -> None:
    other = plan_of(overrides={"method": "gmp"})
    with pytest.raises(UserError, match=r"got old with 8 of other parameters or ranges"):
        read(earlier, "old", plan=other)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody", r"must name studies, got 'nobody' .*`search status` knows"),
        ("/nope/nobody", r"must name studies, got '/nope/nobody'"),
        ("sqlite:///{folder}/nope.db#old", "which is no file; check the path"),
        ("journal:///{folder}/old/optuna.journal#nobody", "has no such study; check its name"),
        ("journal:///{folder}/old/optuna.journal", "must read STORAGE#STUDY for an Optuna"),
        ("journal:///{folder}/old/optuna.journal#", "must read STORAGE#STUDY for an Optuna"),
        ("redis://host/0#old", "`--warm-start` must be a database"),
        ("postgresql://me:secret@127.0.0.1:1/x#old", r"me:\*\*\*@127.0.0.1:1/x"),
    ],
)
def test_mistakes(earlier: StudyFiles, source: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(earlier, source.format(folder=earlier.storage))
    assert "secret" not in str(caught.value)
    assert not (earlier.storage / "nope.db").exists()


def test_a_snapshot_outlives_its_source(earlier: StudyFiles, tmp_path: Path) -> None:
    files = StudyFiles(storage=tmp_path, study="new")
    files.directory.mkdir()
    known = read(earlier, "old")
    write_snapshot(files, known)
    assert read_snapshot(files) == known
    assert [p.name for p in files.directory.iterdir()] == ["warm_start.json"]
    for damaged in ("", "[", "{}x", '[{"params": {}}]', "[3]"):
        files.warm_start.write_text(damaged)
        with pytest.raises(UserError, match="must hold what the study was warm-started with"):
            read_snapshot(files)
    files.warm_start.unlink()
    with pytest.raises(UserError, match="restore it from a backup"):
        read_snapshot(files)


@pytest.mark.parametrize(
    "changes",
    [
        {"sparsity.target": 0.1},
        {"sparsity.target": math.nan},
        {"sparsity.target": "0.8"},
        {"sparsity.target": True},
        {"sparsity.target": None},
        {"sparsity.target": "much"},
        {"method": "dense"},
        {"method": None},
        {"optimiser.learning_rate": ...},
    ],
)
def test_a_trial_that_could_not_be_drawn_is_none(changes: dict[str, Any]) -> None:
    good = {"method": "snip", "sparsity.target": 0.8, "optimiser.learning_rate": 2e-3}
    space = plan_of().space
    assert WarmTrial(params={**good, "more": 3}, metrics={}).draw(space) is not None
    params = {k: v for k, v in {**good, **changes}.items() if v is not ...}
    assert WarmTrial(params=params, metrics={}).draw(space) is None


def first_free_draw(plan: Plan, warm: tuple[WarmTrial, ...]) -> dict[str, Any]:
    ledger = ledger_of(plan, warm=warm)
    for number in range(len(plan.starts())):
        assignment = ledger.next()
        assert assignment is not None
        outcome = Outcome(status="failed", reason="", metrics={}, fraction=0.0)
        ledger.finish(number, outcome)
    assignment = ledger.next()
    assert assignment is not None
    return dict(assignment.params)


def test_the_first_free_draw_is_no_longer_random() -> None:
    plan = plan_of(trials=20, sampler="tpe")
    warm = tuple(
        WarmTrial(
            params={
                "method": "snip",
                "sparsity.target": 0.5 + 0.0098 * i,
                "optimiser.learning_rate": 2e-3,
            },
            metrics=metrics_of(plan, i),
        )
        for i in range(50)
    )
    random_draw, informed = first_free_draw(plan, ()), first_free_draw(plan, warm)
    assert informed != random_draw
    assert informed == first_free_draw(plan, warm)  # as a resumed study would
    # Trials without a value for an objective, or of another space, are passed over.
    useless = tuple(
        WarmTrial(params=t.params, metrics={"val/segmentation/miou": 0.5}) for t in warm
    ) + tuple(WarmTrial(params={"method": "snip"}, metrics=t.metrics) for t in warm)
    assert first_free_draw(plan, useless) == random_draw


def test_json_of_a_trial() -> None:
    trial = WarmTrial(params={"method": "snip", "sparsity.target": 0.5}, metrics={"a": 1.0})
    assert WarmTrial.from_json(json.loads(json.dumps(trial.to_json()))) == trial
