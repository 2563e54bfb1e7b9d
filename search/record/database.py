"""Optuna's database on a server that may be restarted while a study runs."""

import contextlib
import logging
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, TypeVar

from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from search.record.sql_errors import is_broken_connection

PATIENCE_SECONDS = 120.0
_MAX_TRIES = 5
_RETRY_SECONDS = 1.0
_CONNECT_SECONDS = 10
_WITH_TIMEOUT = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Away(Exception):
    """The server did not come back in time; nobody is to wait once more."""


class Database(RDBStorage):
    """Waits for a server that is away, `PATIENCE_SECONDS` long: trials go on meanwhile.

    Connections are tried before they are used, and where one broke, a new one is made. A
    transaction that was cut off is made once more, at most `_MAX_TRIES` times in all; one that
    the server had carried out though its answer was lost is found out, and leaves nothing twice.
    For that, one process alone may add trials to a study, from templates whose user attributes
    differ from trial to trial; `optuna.Study.ask` has no template, and may leave a trial twice.

    Raises `StorageInternalError` where the server stays away or refuses, in its own words;
    Optuna's (5.0) speak of invalid data, whatever happened.
    """

    def __init__(self, address: str) -> None:
        self._num_creations = 0  # tries of the trial that is being created
        engine: dict[str, Any] = {"pool_pre_ping": True}
        if address.partition("://")[0] in _WITH_TIMEOUT and "connect_timeout" not in address:
            # Else a server that takes a connection and says nothing is waited for without end.
            engine["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
        super().__init__(address, engine_kwargs=engine)
        event.listen(self.engine, "do_connect", _connect)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        self._num_creations = 0
        with _in_its_own_words():  # Optuna tries five times
            return super()._create_new_trial(study_id, template_trial)

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> models.TrialModel:
        self._num_creations += 1
        if self._num_creations > 1 and template_trial is not None:
            newest = (
                session.query(models.TrialModel)
                .filter(models.TrialModel.study_id == study_id)
                .order_by(models.TrialModel.number.desc())
                .first()
            )
            if newest is not None:
                found = self._build_frozen_trial_from_trial_model(newest)
                if found.user_attrs == template_trial.user_attrs:
                    return newest
        return super()._get_prepared_new_trial(study_id, template_trial, session)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._insist(lambda _: super(Database, self).set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._insist(lambda _: super(Database, self).set_trial_system_attr(trial_id, key, value))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        def attempt(again: bool) -> bool:
            try:
                return super(Database, self).set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if again and self.get_trial(trial_id).state == state:
                    return True
                raise

        return self._insist(attempt)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        return self._insist(
            lambda _: super(Database, self)._get_trials(
                study_id, states, included_trial_ids, trial_id_greater_than
            )
        )

    def _insist(self, attempt: Callable[[bool], T]) -> T:
        """attempt: told whether an earlier try may have been carried out without an answer."""
        with _in_its_own_words():
            for tries in range(_MAX_TRIES - 1):
                try:
                    return attempt(tries > 0)
                except (StorageInternalError, SQLAlchemyError) as error:
                    # Optuna wraps what SQLAlchemy raises, most of the time.
                    if not any(map(is_broken_connection, (error, error.__cause__))):
                        raise
                    logger.warning("the study storage: %s; will try again", _first_line(error))
                    time.sleep(_RETRY_SECONDS)
            return attempt(True)


@contextlib.contextmanager
def _in_its_own_words() -> Iterator[None]:
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, _Away) as error:
        raise StorageInternalError(_first_line(error)) from error


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ or error


def _first_line(error: BaseException) -> str:
    return str(_cause(error)).strip().partition("\n")[0]


def _connect(dialect: Any, record: Any, arguments: Any, settings: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    said = False
    while True:
        try:
            return dialect.connect(*arguments, **settings)
        except dialect.loaded_dbapi.OperationalError as error:
            line = _first_line(error)
            if time.monotonic() >= deadline:
                raise _Away(line) from error
            if not said:
                said = True
                logger.warning(
                    "the study storage is away (%s): waiting up to %.0f s", line, PATIENCE_SECONDS
                )
            time.sleep(_RETRY_SECONDS)
