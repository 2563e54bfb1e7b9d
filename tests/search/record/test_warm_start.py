"""What other studies know, from their real records; see `search.record.warm_start`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.execution.launch_options import Launch
from search.execution.study import run_study
from search.plans.description import describe_study
from search.plans.plan import Plan
from search.record.files.study_folder import StudyFiles, write_json
from search.record.files.trials_table import write_trials
from search.record.outcomes import Outcome
from search.record.warm_start import WarmTrial, warm_trials
from tests.search import studies
from tests.search.studies import ledger_of
from trainables.errors import UserError
from trainables.terminal.as_typed import python

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
    write_json(files.description, {"settings": dict(plan.pins)})
    return files


FINAL = [n for n in range(TRIALS) if n not in (2, 4)]


def read(files: StudyFiles, *sources: str, plan: Plan | None = None) -> tuple[WarmTrial, ...]:
    plan = plan or plan_of()
    new = StudyFiles(storage=files.storage, study="new")
    return warm_trials(replace(plan, warm_start=sources), new, begun=False)


def test_by_name_and_by_path_the_same(earlier: StudyFiles) -> None:
    plan = plan_of()
    by_name = read(earlier, "old")
    assert by_name == read(earlier, str(earlier.directory))
    assert [dict(t.metrics) for t in by_name] == [metrics_of(plan, n) for n in FINAL]
    assert by_name[0].params["method"] == "dense"
    drawn = [trial.drawn_from(plan.space) for trial in by_name]
    assert drawn[0] is None  # the reference: no method that this space draws
    assert all(trial is not None for trial in drawn[1:])
    assert read(earlier, "old", str(earlier.directory)) == by_name * 2
    assert read(earlier) == ()


def test_conditional_parameters_come_as_they_were_drawn(earlier: StudyFiles) -> None:
    plan = plan_of()
    for trial in read(earlier, "old")[1:]:
        draw = trial.drawn_from(plan.space)
        assert draw is not None
        drawn = {n: v for n, v in trial.params.items() if not n.startswith("training.")}
        assert draw.params == drawn
        grows = trial.params["method"] in ("rigl", "set", "disparse-dynamic")
        assert ("regrowth.fraction" in draw.distributions) == grows


def test_nothing_that_could_be_drawn_is_a_mistake(earlier: StudyFiles) -> None:
    other = plan_of(overrides={"method": "gmp"})
    with pytest.raises(UserError, match=r"got old with 8 of other parameters or ranges"):
        read(earlier, "old", plan=other)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "nobody",
            r"must name a study, got 'nobody', but .* none of that name \(it holds old\)",
        ),
        (
            "/nope/nobody",
            r"must name a study, got '/nope/nobody', but '/nope' .*\(there is no such folder\)",
        ),
    ],
)
def test_mistakes(earlier: StudyFiles, source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(earlier, source)


def test_what_cannot_be_read_is_said_with_what_helps(tmp_path: Path) -> None:
    files = StudyFiles(storage=tmp_path, study="young")
    files.directory.mkdir()
    plan = plan_of(study="young", trials=2)
    ledger = ledger_of(plan, files.default_study_storage)
    assignment = ledger.next()
    assert assignment is not None

    def said() -> str:
        with pytest.raises(UserError, match="`--warm-start` must name studies") as caught:
            read(files, "young")
        return str(caught.value)

    files.description.write_text("{")
    assert "restore study.json" in said()
    assert "search sync" not in said()  # which needs it as well
    write_json(files.description, describe_study(plan, {"study_id": ""}))
    assert "of which no trial has ended" in said()
    assert "search sync" not in said()
    outcome = Outcome(status="complete", reason="", metrics=metrics_of(plan, 0), fraction=1.0)
    ledger.finish(assignment.number, outcome)
    sync = f"`{python()} -m search sync young --storage {tmp_path}` writes the table again"
    assert sync in said()
    write_trials(files.trials, "young", ledger.finished())
    assert "with 1 of other parameters or ranges" in said()  # it is read: the dense reference


def test_a_mistake_is_said_before_data_are_prepared(
    earlier: StudyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(*_: object) -> None:
        raise AssertionError("data were prepared")

    monkeypatch.setattr("search.execution.preparation.check_first_trial", prepare)
    launch = Launch(storage=str(earlier.storage), quiet=True)
    plan = replace(plan_of(study="later"), warm_start=("old", "nobody"))
    with pytest.raises(UserError, match="must name a study, got 'nobody'"):
        run_study(plan, launch)
    assert not (earlier.storage / "later").exists()
    with pytest.raises(AssertionError, match="data were prepared"):
        run_study(replace(plan, warm_start=("old",)), launch)


def test_what_was_learned_at_the_beginning_outlives_its_source(
    earlier: StudyFiles, tmp_path: Path
) -> None:
    plan = replace(plan_of(), warm_start=(str(earlier.directory),))
    files = StudyFiles(storage=tmp_path, study="new")
    known = warm_trials(plan, files, begun=False)
    assert [p.name for p in files.directory.iterdir()] == ["warm_start.json"]
    gone = replace(plan, warm_start=("nobody",))
    assert warm_trials(gone, files, begun=True) == known
    with pytest.raises(UserError, match="must name a study, got 'nobody'"):
        warm_trials(gone, files, begun=False)
    files.warm_start.write_text("[")
    with pytest.raises(UserError, match="restore it from a copy"):
        warm_trials(plan, files, begun=True)


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
    assert WarmTrial(params={**good, "more": 3}, metrics={}).drawn_from(space) is not None
    params = {k: v for k, v in {**good, **changes}.items() if v is not ...}
    assert WarmTrial(params=params, metrics={}).drawn_from(space) is None


def first_free_draw(plan: Plan, warm: tuple[WarmTrial, ...]) -> dict[str, Any]:
    ledger = ledger_of(plan, warm=warm)
    for number in range(len(plan.starts())):
        assignment = ledger.next()
        assert assignment is not None
        outcome = Outcome(status="failed", reason="", metrics={}, fraction=0.0)
        ledger.finish(number, outcome)
    assignment = ledger.next()
    assert assignment is not None
    return dict(ledger.trials()[assignment.number].user_attrs["params"])


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
