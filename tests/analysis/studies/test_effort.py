"""Check a study's epochs and time: by hand, what was saved, and gaps in the record."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.plots import hypervolume
from analysis.report import figures
from analysis.studies.effort import by_epochs, by_time, by_trials, count_epochs
from analysis.studies.terms import effort_text, saved_text, terms
from analysis.studies.trials import Study, Trial, load_study
from tests.analysis.built_studies import (
    BuiltStudy,
    Row,
    realistic_rows,
    searched_rows,
    spend,
)

TASKS = ("segmentation", "normals")
START = datetime(2025, 3, 1, 9, tzinfo=UTC)
Record = Callable[..., BuiltStudy]


def trial(
    number: int,
    status: str = "complete",
    *,
    epochs: float | None = 10.0,
    ended: float | None = 0.0,
    fraction: float = 1.0,
    params: dict[str, int] | None = None,
) -> Trial:
    """`ended` in minutes after the start of the study; every trial began with it."""
    return Trial(
        trial=f"s-{number:05d}",
        number=number,
        method="snip",
        seed=0,
        status=status,
        params=params or {},
        metrics={} if epochs is None else {"training/epochs": epochs},
        fraction=fraction,
        started=START,
        ended=None if ended is None else START + timedelta(minutes=ended),
    )


def study_of(*trials: Trial) -> Study:
    return Study(
        name="s",
        directory=Path("nowhere"),
        objectives=("val/segmentation/miou", "cost/density"),
        trials=trials,
        facts={},
        source="parquet",
    )


def test_epochs_of_all_trials_by_hand() -> None:
    """Trials of every kind that had ended by then, in the order they ended, not by number."""
    first, last = trial(3, epochs=10, ended=2), trial(0, epochs=10, ended=9)
    study = study_of(
        last,
        trial(1, "stopped", epochs=2.5, ended=1, fraction=0.25),
        trial(2, "infeasible", epochs=10, ended=3),
        first,
        trial(4, "failed", epochs=4, ended=4),
        trial(5, "failed", epochs=None, ended=5),  # before its first report
        trial(6, "stopped", epochs=5, ended=12, fraction=0.5),
        trial(7, "running", epochs=7, ended=None),
    )
    course = by_epochs(study, (first, last))
    assert course is not None
    assert course.places == (2.5 + 10, 2.5 + 10 + 10 + 4 + 10)
    assert (course.start, course.end) == (0.0, 41.5)
    spent = count_epochs(study)
    assert spent is not None
    assert (spent.spent, spent.num_unknown) == (41.5, 1)


def test_trials_that_end_at_one_moment_count_together() -> None:
    one, two = trial(0, epochs=3, ended=1), trial(1, epochs=4, ended=1)
    course = by_epochs(study_of(one, two), (one, two))
    assert course is not None
    assert course.places == (7, 7)


def test_time_includes_pauses_and_picks_its_unit() -> None:
    one, two = trial(0, ended=30), trial(1, ended=300)
    late = trial(2, "stopped", ended=330, fraction=0.5)
    course = by_time(study_of(one, two, late), (one, two))
    assert course is not None
    assert course.label == "hours since the first trial began"
    assert course.places == (0.5, 5.0)
    assert course.end == 5.5
    quick = trial(0, ended=1)
    course = by_time(study_of(quick), (quick,))
    assert course is not None
    assert (course.label.split()[0], course.places) == ("seconds", (60.0,))
    undated = dataclasses.replace(quick, ended=None)
    assert by_time(study_of(undated), (undated,)) is None


@given(
    pretraining=st.integers(0, 500),
    steps=st.integers(8, 500),
    eighths=st.integers(1, 7),
    steps_per_epoch=st.integers(1, 50),
)
def test_what_stopping_saved_is_what_running_on_would_have_spent(
    pretraining: int, steps: int, eighths: int, steps_per_epoch: int
) -> None:
    row = Row(number=0, method="snip", fraction=eighths / 8)
    spend(row, steps=steps, pretraining=pretraining, steps_per_epoch=steps_per_epoch)
    stopped = trial(
        0,
        "stopped",
        epochs=row.metrics["training/epochs"],
        fraction=row.fraction,
        params=row.params,
    )
    spent = count_epochs(study_of(stopped))
    assert spent is not None
    assert spent.exact
    whole = (pretraining + steps) / steps_per_epoch
    assert spent.saved == pytest.approx(whole - row.metrics["training/epochs"], rel=1e-9)
    # Without a record of the lengths: no less than that.
    unknown = count_epochs(study_of(dataclasses.replace(stopped, params={})))
    assert unknown is not None
    assert not unknown.exact
    assert unknown.saved >= spent.saved * (1 - 1e-9)
    assert saved_text(unknown).startswith("≤ ")


@pytest.mark.parametrize("status", ["complete", "infeasible", "stopped"])
def test_without_epochs_of_all_that_trained_trials_are_counted(status: str) -> None:
    one = trial(0)
    study = study_of(one, trial(1, status, epochs=None, fraction=0.5))
    assert count_epochs(study) is None
    assert by_epochs(study, (one,)) is None
    assert by_trials((one,)).places == (1.0,)


def test_effort_in_words() -> None:
    lengths = {"training.steps": 100, "training.pretrain_steps": 0}
    stopped = trial(1, "stopped", epochs=2.5, fraction=0.25, params=lengths)
    spent = count_epochs(study_of(trial(0), stopped, trial(2, "failed", epochs=None)))
    assert spent is not None
    assert effort_text(spent, 1) == (
        "The trials that ended spent 12.5 epochs in all. Running the one trial stopped early to "
        "its end would have taken 7.5 more. 1 trial failed without epochs on record and is not "
        "counted."
    )


def test_a_search_is_drawn_over_epochs_and_time(record: Record) -> None:
    built = record("new", searched_rows(30, TASKS, 0.3), tasks=TASKS)
    found = figures.find(load_study("new", built.storage))
    epochs, time = found.courses
    assert epochs.label == "epochs of all trials"
    assert time.label == "minutes since the first trial began"
    reported = [r.metrics.get("training/epochs", 0.0) for r in built.rows]
    assert epochs.end == pytest.approx(sum(reported))
    # One after another there: trial n ends after those below n.
    expected = [sum(reported[: t.number + 1]) for t in found.ended]
    assert list(epochs.places) == pytest.approx(expected)
    picture = hypervolume.draw(found.ended, found.share_N, found.courses, "title", "subtitle")
    assert [axes.get_xlabel() for axes in picture.axes] == [epochs.label, time.label]
    for axes, course in zip(picture.axes, found.courses, strict=True):
        line = axes.lines[0]
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (0.0, 0.0)
        assert line.get_xdata()[-1] == pytest.approx(course.end)
        assert line.get_ydata()[-1] == found.share_N[-1]


def test_every_trace_of_the_hypervolume_is_in_the_legend(record: Record) -> None:
    built = record("named", searched_rows(30, TASKS, 0.3), tasks=TASKS)
    found = figures.find(load_study("named", built.storage))
    figure = hypervolume.interactive(found.ended, found.share_N, found.courses, {})
    names = {name for name, _ in hypervolume.legend(found.ended, found.share_N)}
    assert {t.name for t in figure.data} == names
    assert len(figure.layout.updatemenus[0].buttons) == len(found.courses) == 2


def test_an_old_study_is_drawn_over_its_trials(record: Record) -> None:
    built = record("old", realistic_rows(20, TASKS), tasks=TASKS)
    found = figures.find(load_study("old", built.storage))
    assert found.epochs is None
    assert found.courses[0] == by_trials(found.ended)
    picture = hypervolume.draw(found.ended, found.share_N, found.courses[:1], "title", "subtitle")
    assert picture.axes[0].get_xlim() == (0.5, len(found.ended) + 0.5)


SCHEDULER = {"grace": 1 / 9, "maximum": 1.0, "reduction_factor": 3.0}


def test_terms_of_a_study_in_words() -> None:
    facts = {
        "budget": {"epochs": 300.0},
        "first_budget": {"epochs": 200.0},
        "scheduler": SCHEDULER,
        "constraints": {"segmentation/miou": ">=0.3", "cost/density": "<=0.2"},
        "warm_start": ["demo", "older"],
    }
    assert dict(terms(facts)) == {
        "budget": "300 epochs, extended from 200 epochs",
        "scheduler": (
            "ParetoASHA: trials are compared at 11.1 % and 33.3 % of training and about one in 3 "
            "continues"
        ),
        "constraints": "segmentation mIoU at least 0.3; density at most 20 %",
        "warm start": "from the trials of demo, older",
    }


def test_a_plateau_and_a_prior_in_words() -> None:
    facts = {
        "budget": {"trials": 40, "plateau": 0.02},
        "first_budget": {"trials": 40, "plateau": 0.02},
        "prior": {"values": {"optimiser.learning_rate": 0.003}, "studies": ["demo"]},
    }
    assert dict(terms(facts)) == {
        "budget": "40 trials or until the rest would add less than 2 % to the hypervolume",
        "prior": (
            "good settings were thought to be like the front of demo, "
            "optimiser.learning_rate near 0.003"
        ),
    }
    assert terms({"prior": {"values": {}, "studies": []}}) == []


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (None, "none: every trial is trained to its end"),
        ("none", "none: every trial is trained to its end"),
        ("pareto-asha", "pareto-asha"),
        ({**SCHEDULER, "grace": 1.0}, "without a milestone before the end"),
        ({**SCHEDULER, "grace": 0.001, "reduction_factor": 1.5}, ", … and "),
        ({"grace": "?"}, "ParetoASHA: {'grace': '?'}"),
    ],
)
def test_schedulers_in_words(scheduler: object, words: str) -> None:
    assert words in dict(terms({"scheduler": scheduler}))["scheduler"]


def test_terms_that_are_not_on_record_are_left_out() -> None:
    assert terms({"seed": 0}) == []
    none = {"budget": {"trials": 14}, "constraints": {}, "warm_start": []}
    assert terms(none) == [("budget", "14 trials"), ("constraints", "none"), ("warm start", "none")]
