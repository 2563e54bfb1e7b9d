"""The searcher that Tune asks: nothing that goes wrong in it may raise into Tune's loop."""

from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from search.execution.searcher import LedgerSearcher
from search.record.ledger import Assignment
from search.record.storage import StudyRecord
from tests.search.studies import driver_of, ledger_of, plan_of, record_of
from trainables.errors import UserError


def test_a_trial_whose_setup_raises_has_failed_and_the_study_goes_on() -> None:
    ledger = ledger_of(plan_of(trials=4))
    assigned: list[int] = []

    def to_config(assignment: Assignment) -> dict[str, Any]:
        if assignment.number in (1, 3):
            raise UserError("these settings do not fit")
        return {"name": assignment.name, "number": assignment.number}

    searcher = LedgerSearcher(
        ledger, to_config, on_assigned=lambda assignment: assigned.append(assignment.number)
    )
    given = [searcher.suggest(f"ray-{n}") for n in range(3)]
    assert [config["number"] for config in given[:2]] == assigned == [0, 2]
    assert given[2] == Searcher.FINISHED
    failed = {t.number: t.user_attrs["reason"] for t in ledger.finished()}
    reason = "the trial could not be set up: these settings do not fit"
    assert failed == {1: reason, 3: reason}
    # The trials that Tune knows end as they do otherwise.
    for trial_id in ("ray-0", "ray-1"):
        searcher.on_trial_complete(trial_id, error=True)
    assert ledger.num_remaining == 0


def test_a_trial_that_was_to_be_stopped_when_its_driver_died_ends_as_stopped() -> None:
    plan = plan_of(trials=2)
    record = record_of(plan)
    driver_of(plan, record).next()
    last = {"training/fraction": 0.5, "training/step": 20.0, "cost/density": 0.4}
    ledger = driver_of(plan, record)
    searcher = LedgerSearcher(
        ledger, lambda assignment: {"number": assignment.number}, stopped={0: last}
    )
    assert searcher.suggest("a") == {"number": 1}
    (trial,) = ledger.finished()
    assert (trial.number, trial.user_attrs["status"]) == (0, "stopped")
    assert trial.user_attrs["reason"] == "stopped by the scheduler at 50% of training"
    assert trial.user_attrs["metrics"] == last


def test_a_disk_that_is_away_loses_no_trial() -> None:
    plan = plan_of(trials=2)
    record = record_of(plan)

    def to_config(assignment: Assignment) -> dict[str, Any]:
        raise OSError("the folder is gone")

    with pytest.raises(OSError, match="gone"):
        LedgerSearcher(driver_of(plan, record), to_config).suggest("a")
    again = LedgerSearcher(
        driver_of(plan, record), lambda assignment: {"number": assignment.number}
    )
    assert [again.suggest("b"), again.suggest("c")] == [{"number": 0}, {"number": 1}]


def test_a_record_that_cannot_be_written_ends_the_launch_and_loses_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune swallows what a searcher raises at a trial's end, so it is raised again."""
    plan = plan_of(trials=3)
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    searcher = LedgerSearcher(
        ledger_of(plan, storage), lambda assignment: {"number": assignment.number}
    )
    searcher.suggest("a")

    def away(*_: Any, **__: Any) -> None:
        raise OSError("the server went away")

    with monkeypatch.context() as patch:
        patch.setattr(StudyRecord, "note", away)
        with pytest.raises(OSError, match="went away"):
            searcher.on_trial_complete("a", error=True)
    with pytest.raises(OSError, match="went away"):
        searcher.suggest("b")
    again = ledger_of(plan, storage).next()
    assert again is not None
    assert (again.number, again.resumed) == (0, True)
