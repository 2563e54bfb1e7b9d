"""A record whose connection breaks in the midst: nothing is lost, and nothing is there twice.

SQLite stands in for the server here; tests/cluster restarts a real PostgreSQL.
"""

import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import tenacity
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
)

from search.record import storage
from search.record.storage import (
    GIVEN,
    OUTCOME,
    BrokenConnection,
    StudyRecord,
    is_broken_connection,
    open_storage,
)
from trainables.errors import UserError

CUT_OFF = "terminating connection due to administrator command"
DIRECTIONS = {"a": "minimize", "b": "maximize"}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (StudyRecord.trials, StudyRecord.add, StudyRecord.note, StudyRecord.end):
        monkeypatch.setattr(method.retry, "wait", tenacity.wait_none())  # type: ignore[attr-defined]
    monkeypatch.setattr("optuna.storages._rdb.storage.random.random", lambda: 0.0)


def template(number: int) -> Any:
    return create_trial(
        state=TrialState.RUNNING,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs={GIVEN: {"number": number, "seed": number, "params": {}}},
    )


class Line:
    """To a database; breaks at the commits that are `broken`, which the server has `carried` out
    or not."""

    def __init__(self, path: Path) -> None:
        self.record = StudyRecord.create(f"sqlite:///{path}", "s", DIRECTIONS)
        self.broken: Iterator[bool] = iter(())
        self.carried = False
        self.num_commits = 0
        database: Any = self.record._storage
        self.dialect = database.engine.dialect
        self._commit = self.dialect.do_commit
        self.dialect.do_commit = self._do_commit

    def _do_commit(self, connection: Any) -> None:
        self.num_commits += 1
        broken = next(self.broken, False)
        if self.carried or not broken:
            self._commit(connection)
        if broken:
            raise sqlite3.OperationalError(CUT_OFF)

    def work(self) -> None:
        """Two trials from start to end, by the calls of `search.record.ledger`."""
        for number in range(2):
            identity = self.record.add(template(number))
            self.record.note(identity, OUTCOME, {"reason": "", "status": "complete"})
            values = [1.0, float(number)]
            self.record.end(identity, TrialState.COMPLETE, values, {"c": -1.0})

    def check(self) -> None:
        """As it is without any trouble."""
        trials = self.record.trials()
        assert [t.number for t in trials] == [0, 1]
        assert [t.user_attrs["seed"] for t in trials] == [0, 1]
        assert [t.params for t in trials] == [{"x": 0.5}] * 2
        assert [t.values for t in trials] == [[1.0, 0.0], [1.0, 1.0]]
        assert [t.user_attrs["status"] for t in trials] == ["complete"] * 2
        assert [t.constraints for t in trials] == [{"c": -1.0}] * 2
        assert {t.state for t in trials} == {TrialState.COMPLETE}


@pytest.fixture(scope="module")
def num_commits(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Of `work` and `check` without trouble."""
    line = Line(tmp_path_factory.mktemp("whole") / "o.db")
    line.work()
    line.check()
    return line.num_commits


@pytest.mark.timeout(180)
@pytest.mark.parametrize("carried", [False, True])
def test_a_transaction_that_was_cut_off(tmp_path: Path, num_commits: int, carried: bool) -> None:
    """Every one in its turn, once or up to three times."""
    assert num_commits >= 8
    for commit in range(num_commits):
        line, times = Line(tmp_path / f"{commit}.db"), 1 + commit % 3
        line.carried = carried
        line.broken = iter([False] * commit + [True] * times)
        line.work()
        line.check()
        assert line.num_commits >= commit + times, "nothing broke"


@pytest.mark.timeout(180)
def test_a_statement_that_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the connection dead, as Optuna, which tries some statements twice, finds it."""
    for statement in range(0, 45, 2):
        line, count = Line(tmp_path / f"{statement}.db"), 0
        real = line.dialect.do_execute

        def do_execute(
            cursor: Any,
            text: str,
            parameters: Any,
            context: Any = None,
            real: Any = real,
            statement: int = statement,
        ) -> None:
            nonlocal count
            count += 1
            if count == statement + 1:
                raise sqlite3.OperationalError(CUT_OFF)
            real(cursor, text, parameters, context)

        with monkeypatch.context() as patch:
            patch.setattr(line.dialect, "do_execute", do_execute)
            patch.setattr(line.dialect, "is_disconnect", lambda error, *_: CUT_OFF in str(error))
            line.work()
            line.check()
        assert count > statement, "nothing broke"


def test_a_server_that_stays_away_is_waited_for_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(tmp_path / "o.db")
    identity = line.record.add(template(0))
    database: Any = line.record._storage
    database.engine.dispose()
    tries = []

    def connect(*_: Any, **__: Any) -> None:
        tries.append(time.monotonic())
        raise sqlite3.OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(line.dialect, "connect", connect)
    monkeypatch.setattr(storage, "PATIENCE_SECONDS", 0.3)
    pause = tenacity.wait_fixed(0.05)
    monkeypatch.setattr(StudyRecord.note.retry, "wait", pause)  # type: ignore[attr-defined]
    with (
        caplog.at_level(logging.WARNING, logger="search"),
        pytest.raises(BrokenConnection) as caught,
    ):
        line.record.note(identity, "a", 1)
    assert is_broken_connection(caught.value)
    assert len(tries) > 2
    assert 0.25 < tries[-1] - tries[0] < 1.5
    (said,) = [r.getMessage() for r in caplog.records]
    assert said.startswith("the study storage does not answer (")
    assert "connection refused" in said
    assert "\n" not in said


def test_what_is_no_broken_connection_is_raised_at_once(tmp_path: Path) -> None:
    line = Line(tmp_path / "o.db")
    before = line.num_commits
    with pytest.raises(KeyError):
        line.record.note(99, "a", 1)
    assert line.num_commits - before <= 2


def test_an_end_is_told_once(tmp_path: Path) -> None:
    line = Line(tmp_path / "o.db")
    identity = line.record.add(template(0))
    line.record.end(identity, TrialState.COMPLETE, [1.0, 2.0], {})
    line.record.end(identity, TrialState.FAIL, None, {})
    (trial,) = line.record.trials()
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [1.0, 2.0])


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (OperationalError("INSERT", {}, Exception("gone")), True),
        (InterfaceError("INSERT", {}, Exception("gone")), True),
        (PendingRollbackError("rolled back"), True),
        (DBAPIError("INSERT", {}, Exception("gone"), connection_invalidated=True), True),
        (DBAPIError("INSERT", {}, Exception("wrong")), False),
        (IntegrityError("INSERT", {}, Exception("twice")), False),
        (OSError("no space left"), False),
        (KeyError("no such trial"), False),
    ],
)
def test_a_broken_connection_is_one_that_another_may_replace(
    error: Exception, broken: bool
) -> None:
    assert is_broken_connection(error) == broken
    wrapped = StorageInternalError("an error")
    wrapped.__cause__ = error
    assert is_broken_connection(wrapped) == broken


# ---------------------------------------------------------------------------- without trouble


@pytest.fixture(params=["journal:///{}/o.journal", "sqlite:///{}/o.db", "sqlite:///{}/o.db?a=b"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


def test_a_record_is_an_optuna_study_for_others_to_read(address: str) -> None:
    record = StudyRecord.create(address, "s", DIRECTIONS)
    identity = record.add(template(0))
    record.note(identity, OUTCOME, {"status": "complete", "metrics": {"a": 1.0}})
    record.end(identity, TrialState.COMPLETE, [1.0, 2.0], {"c": 0.5})
    record.add(template(1))
    record.flush()
    study = optuna.load_study(study_name="s", storage=open_storage(address))
    assert study.metric_names == ["a", "b"]
    assert [d.name for d in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    first, second = study.trials
    assert (first.state, first.values, first.constraints) == (
        TrialState.COMPLETE,
        [1.0, 2.0],
        {"c": 0.5},
    )
    assert second.state == TrialState.RUNNING
    # Another process reads it as this one does.
    loaded = StudyRecord.load(address, "s")
    assert loaded.trials() == record.trials()
    assert [t.user_attrs["seed"] for t in loaded.trials(lambda number: number == 1)] == [1]
    assert loaded.trials()[0].user_attrs["metrics"] == {"a": 1.0}
    assert [loaded.id_of(n) for n in (0, 1)] == [record.id_of(n) for n in (0, 1)]
    # Made again, it is the same.
    assert StudyRecord.create(address, "s", DIRECTIONS).trials() == record.trials()


def test_what_is_read_can_be_changed_without_harm(address: str) -> None:
    record = StudyRecord.create(address, "s", DIRECTIONS)
    record.add(template(0))
    record.trials()[0].user_attrs["seed"] = 99
    assert record.trials()[0].user_attrs["seed"] == 0


def test_loading_makes_nothing(tmp_path: Path) -> None:
    for scheme, name in (("journal", "o.journal"), ("sqlite", "o.db")):
        address = f"{scheme}:///{tmp_path / 'absent' / name}"
        with pytest.raises(UserError, match=r"`--study-storage` must be .*no such file"):
            StudyRecord.load(address, "s")
    assert list(tmp_path.iterdir()) == []


def test_another_study_in_the_storage_is_not_this_one(address: str) -> None:
    StudyRecord.create(address, "s", DIRECTIONS)
    with pytest.raises(UserError, match="`--study-storage` must be a database"):
        StudyRecord.load(address, "t")


def test_trials_of_other_programs_are_passed_over(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = StudyRecord.create(address, "s", DIRECTIONS)
    record.add(template(0))
    theirs = optuna.load_study(study_name="s", storage=open_storage(address))
    theirs.ask()
    theirs.enqueue_trial({"x": 0.25})
    theirs.add_trial(
        create_trial(state=TrialState.COMPLETE, values=[1.0, 2.0], user_attrs={"mine": 1})
    )
    theirs.add_trial(theirs.trials[0])  # with all of its attributes
    assert record.number_of(record.add(template(5))) == 5
    with caplog.at_level(logging.WARNING, logger="search"):
        loaded = StudyRecord.load(address, "s")
        assert [t.number for t in loaded.trials()] == [0, 5]
        assert [t.number for t in loaded.trials(lambda number: number > 0)] == [5]
    assert loaded.num_trials() == 6
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("passed over: trials 1, 2, 3, 4 of s, which another program added")


def test_a_trial_that_another_program_ended_has_failed(address: str) -> None:
    record = StudyRecord.create(address, "s", DIRECTIONS)
    record.add(template(0))
    optuna.load_study(study_name="s", storage=open_storage(address)).tell(0, [1.0, 2.0])
    (trial,) = record.trials()
    assert trial.user_attrs["status"] == "failed"
    assert "another program ended it" in trial.user_attrs["reason"]


@pytest.mark.parametrize("with_trial", [False, True])
@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_nothing_is_written_to_a_study_of_another_program(
    address: str, with_trial: bool, directions: list[str]
) -> None:
    theirs = optuna.create_study(
        study_name="s", storage=open_storage(address), directions=directions
    )
    theirs.set_user_attr("purpose", "another")
    if with_trial:
        theirs.ask()
    with pytest.raises(UserError, match="got another study of that name"):
        StudyRecord.create(address, "s", DIRECTIONS, "ours")
    after = optuna.load_study(study_name="s", storage=open_storage(address))
    assert after.user_attrs == {"purpose": "another"}
    assert after.metric_names is None


def test_a_study_that_was_deleted_there_is_said(address: str) -> None:
    StudyRecord.create(address, "s", DIRECTIONS, "ours")
    optuna.delete_study(study_name="s", storage=open_storage(address))
    with pytest.raises(UserError, match=r"it was deleted or renamed there; .*search delete s"):
        StudyRecord.load(address, "s", "ours")
