"""A database whose connection breaks in the midst: nothing is lost, and nothing is there twice.

SQLite stands in for the server here; tests/cluster restarts a real PostgreSQL.
"""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState, create_trial

from search.record import database
from search.record.database import Database

CUT_OFF = "terminating connection due to administrator command"
NUM_COMMITS = 9  # of `work` and `check`


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr("optuna.storages._rdb.storage.random.random", lambda: 0.0)


class Line:
    """To a database; breaks at the commits that are `broken`, which the server has `carried` out
    or not."""

    def __init__(self, path: Path) -> None:
        self.database = Database(f"sqlite:///{path}")
        self.study = optuna.create_study(
            study_name="s", storage=self.database, directions=["minimize"] * 2
        )
        self.storage = self.study._storage  # Optuna's cache before the database
        self.broken: Iterator[bool] = iter(())
        self.carried = False
        self.num_commits = 0
        dialect = self.database.engine.dialect
        self._commit = dialect.do_commit
        dialect.do_commit = self._do_commit  # type: ignore[method-assign]

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
            trial = create_trial(
                state=TrialState.RUNNING,
                params={"x": 0.5},
                distributions={"x": FloatDistribution(0, 1)},
                user_attrs={"given": {"seed": number}},
            )
            identity = self.storage.create_new_trial(self.study._study_id, template_trial=trial)
            self.storage.set_trial_user_attr(identity, "outcome", {"reason": ""})
            self.storage.set_trial_system_attr(identity, "constraints:c", -1.0)
            values = [1.0, float(number)]
            assert self.storage.set_trial_state_values(identity, TrialState.COMPLETE, values)

    def check(self) -> None:
        """As it is without any trouble."""
        trials = self.study.get_trials()
        assert [t.number for t in trials] == [0, 1]
        assert [t.user_attrs["given"]["seed"] for t in trials] == [0, 1]
        assert [t.params for t in trials] == [{"x": 0.5}] * 2
        assert [t.values for t in trials] == [[1.0, 0.0], [1.0, 1.0]]
        assert [t.user_attrs["outcome"] for t in trials] == [{"reason": ""}] * 2
        assert [t.system_attrs["constraints:c"] for t in trials] == [-1.0] * 2
        assert {t.state for t in trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("commit", range(NUM_COMMITS))
def test_a_transaction_that_was_cut_off(tmp_path: Path, commit: int, carried: bool) -> None:
    line, times = Line(tmp_path / "o.db"), 1 + commit % 3
    line.carried = carried
    line.broken = iter([False] * commit + [True] * times)
    line.work()
    line.check()
    assert line.num_commits >= commit + times, "nothing broke"


@pytest.mark.parametrize("statement", range(0, 45, 2))
def test_a_statement_that_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: int
) -> None:
    """With the connection dead, as Optuna, which tries some statements twice, finds it."""
    line = Line(tmp_path / "o.db")
    dialect = line.database.engine.dialect
    real, count = dialect.do_execute, 0

    def do_execute(cursor: Any, text: str, parameters: Any, context: Any = None) -> None:
        nonlocal count
        count += 1
        if count == statement + 1:
            raise sqlite3.OperationalError(CUT_OFF)
        real(cursor, text, parameters, context)

    monkeypatch.setattr(dialect, "do_execute", do_execute)
    monkeypatch.setattr(dialect, "is_disconnect", lambda error, *_: CUT_OFF in str(error))
    line.work()
    line.check()
    assert count > statement, "nothing broke"


def test_one_without_trouble_commits_as_often_as_those_above(tmp_path: Path) -> None:
    line = Line(tmp_path / "o.db")
    line.work()
    line.check()
    assert line.num_commits == NUM_COMMITS


def test_what_stays_broken_is_said_in_the_words_of_the_server(tmp_path: Path) -> None:
    line = Line(tmp_path / "o.db")
    study, trial = line.study._study_id, create_trial(state=TrialState.RUNNING)
    number = line.storage.create_new_trial(study, trial)
    for call in (
        lambda: line.storage.create_new_trial(study, trial),
        lambda: line.storage.set_trial_user_attr(number, "a", 1),
        lambda: line.storage.set_trial_state_values(number, TrialState.FAIL),
    ):
        before = line.num_commits
        line.broken = iter([True] * 100)
        with pytest.raises(StorageInternalError, match=CUT_OFF) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert line.num_commits - before == 5


def test_a_server_that_stays_away_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(tmp_path / "o.db")
    study, trial = line.study._study_id, create_trial(state=TrialState.RUNNING)
    number = line.storage.create_new_trial(study, trial)
    line.database.engine.dispose()
    tries = []

    def connect(*_: Any, **__: Any) -> None:
        tries.append(time.monotonic())
        raise sqlite3.OperationalError("connection refused\nIs the server running?")

    monkeypatch.setattr(line.database.engine.dialect, "connect", connect)
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(database, "_RETRY_SECONDS", 0.05)
    for call in (
        lambda: line.storage.create_new_trial(study, trial),
        lambda: line.storage.set_trial_user_attr(number, "a", 1),
    ):
        tries.clear()
        with pytest.raises(StorageInternalError, match=r"^connection refused$"):
            call()
        assert len(tries) > 2
        assert tries[-1] - tries[0] < 0.4  # five times as long, were each try as patient


def test_a_trial_that_somebody_else_has_ended_is_no_repetition(tmp_path: Path) -> None:
    line = Line(tmp_path / "o.db")
    trial = line.study.ask()
    line.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        line.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    line.broken = iter([True])
    other = line.study.ask()
    line.broken = iter([True])
    line.carried = True
    line.storage.set_trial_state_values(other._trial_id, TrialState.FAIL)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        line.storage.set_trial_state_values(other._trial_id, TrialState.COMPLETE, [0.0, 0.0])
