"""The storage of a study's record: Optuna's, in a journal file or in a database on a server."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

import optuna
import tenacity
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from search.record.addresses import damaged, first_line, journal_file, local_file, refused
from search.record.journal import Journal
from trainables.errors import UserError

PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 1.0
_CONNECT_SECONDS = 10
_WITH_TIMEOUT = ("postgresql", "postgresql+psycopg", "postgresql+psycopg2")

# The two user attributes of a trial: a single one is written ten times as fast as many.
GIVEN = "given"  # what it was given when it was handed out
OUTCOME = "outcome"  # what had become of it when it ended

T = TypeVar("T")

logger = logging.getLogger(__name__)


def open_storage(address: str) -> optuna.storages.BaseStorage:
    """Return Optuna's storage at an address, for `optuna.load_study` too.

    A journal is a file of lines, one for every change: written in a fraction of the time of a
    transaction of SQLite, and safe on a network file system, which SQLite is not.

    Raises what SQLAlchemy raises where the server does not answer, OSError for a journal that
    cannot be made, and `UserError` for a damaged one.
    """
    path = journal_file(address)
    if path is not None:
        try:
            return optuna.storages.JournalStorage(Journal(str(path)))
        except (ValueError, KeyError) as error:  # of JSON, and of what a line lacks
            raise damaged(path) from error
    if address.startswith("sqlite"):
        return optuna.storages.get_storage(address)
    engine: dict[str, Any] = {"pool_pre_ping": True}  # a restarted server costs no error
    if address.partition("://")[0] in _WITH_TIMEOUT and "connect_timeout" not in address:
        # Otherwise a server that accepts a connection and says nothing is waited for for ever.
        engine["connect_args"] = {"connect_timeout": _CONNECT_SECONDS}
    return optuna.storages.RDBStorage(address, engine_kwargs=engine)


class StudyRecord:
    """One study in an Optuna storage. One driver writes it; other processes may read.

    Every write survives a server that is away or restarted: it is repeated for up to
    `PATIENCE_SECONDS`, and one that the server had carried out, though its answer was lost, is
    found and not made twice. That needs one process alone to add trials.

    Reading and writing raise Optuna's `StorageInternalError` where the server stays away.
    """

    def __init__(
        self, address: str, storage: optuna.storages.BaseStorage, study: optuna.Study
    ) -> None:
        self._journal = journal_file(address)
        self._storage = storage
        self.study = study
        self._study_id = storage.get_study_id_from_name(study.study_name)

    @classmethod
    def create(cls, address: str, name: str, directions: Mapping[str, str]) -> Self:
        """Create or load a study. directions: "minimize" or "maximize", by objective.

        Raises `UserError` where the storage cannot be opened.
        """

        def opened(storage: optuna.storages.BaseStorage) -> optuna.Study:
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                directions=list(directions.values()),
                load_if_exists=True,
            )
            study.set_metric_names(list(directions))
            return study

        return cls._opened(address, opened)

    @classmethod
    def load(cls, address: str, name: str) -> Self:
        """Load a study that exists. Raises `UserError` where it does not; makes nothing."""

        def opened(storage: optuna.storages.BaseStorage) -> optuna.Study:
            return optuna.load_study(study_name=name, storage=storage)

        path = local_file(address)
        if path is not None and not path.exists():
            raise refused("--study-storage", address, KeyError("no such file"))
        return cls._opened(address, opened)

    @classmethod
    def _opened(
        cls, address: str, opened: Callable[[optuna.storages.BaseStorage], optuna.Study]
    ) -> Self:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            with quiet():
                storage = open_storage(address)
                study = opened(storage)
                study.sampler = optuna.samplers.RandomSampler()  # draws nothing: see `end`
                return cls(address, storage, study)
        except UserError:
            raise
        except Exception as error:
            raise refused("--study-storage", address, error) from None

    def trials(self, wanted: Callable[[int], bool] = lambda number: True) -> list[FrozenTrial]:
        """Return trials by number, with their attributes at the top (see `flattened`).

        wanted: whether the trial of a number is to be among them.
        """
        found = self._insist(lambda _: self.study.get_trials(deepcopy=False))
        return [flattened(copy.deepcopy(trial)) for trial in found if wanted(trial.number)]

    def add(self, template: FrozenTrial) -> int:
        """Add a trial. Returns its id, with which it is written.

        template: its user attributes must differ from those of every other trial.
        """

        def attempt(again: bool) -> int:
            if again:  # an earlier try may have added it though its answer was lost
                newest = self.study.get_trials(deepcopy=False)[-1:]
                if newest and newest[0].user_attrs == template.user_attrs:
                    return self.id_of(newest[0].number)
            return self._storage.create_new_trial(self._study_id, template_trial=template)

        return self._insist(attempt)

    def id_of(self, number: int) -> int:
        """Return the id of the trial of that number."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def note(self, trial_id: int, name: str, value: Any) -> None:
        """Set a user attribute of a trial that has not ended."""
        self._insist(lambda _: self._storage.set_trial_user_attr(trial_id, name, value))

    def end(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        violations: Mapping[str, float],
    ) -> None:
        """Give a trial its final state.

        values: one for each objective, of a complete trial. violations: of the constraints by
          name, positive where missed.
        """

        def attempt(again: bool) -> None:
            try:
                if violations:
                    with quiet():
                        trial = Trial(self.study, trial_id)
                        for name, value in violations.items():
                            trial.set_constraint(name, value)
                self._storage.set_trial_state_values(trial_id, state, values)
            except UpdateFinishedTrialError:
                if not again or self._storage.get_trial(trial_id).state != state:
                    raise

        self._insist(attempt)

    def flush(self) -> None:
        """Have the record on the disk; a database has it there already."""
        if self._journal is not None:
            Journal(str(self._journal)).flush()

    def _insist(self, attempt: Callable[[bool], T]) -> T:
        """attempt: told whether an earlier try may have been carried out without an answer."""
        for tried in tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_broken_connection),
            stop=tenacity.stop_after_delay(PATIENCE_SECONDS),
            wait=tenacity.wait_fixed(_RETRY_SECONDS),
            before_sleep=_say,
            reraise=True,
        ):
            with tried:
                return attempt(tried.retry_state.attempt_number > 1)
        raise AssertionError("unreachable")


def flattened(trial: FrozenTrial) -> FrozenTrial:
    """Return the trial with what it was given, and what became of it, at the top.

    Its user attributes then are `params` (drawn values and pins), `seed`, `config` (nested; not
    of a refused one), `reference`, and of an ended one also `status`, `reason`, `metrics` and
    `fraction`.
    """
    for name in (GIVEN, OUTCOME):
        trial.user_attrs |= trial.user_attrs.pop(name, {})
    return trial


def is_broken_connection(error: BaseException) -> bool:
    """Whether the same call may succeed over another connection."""
    # Loaded late: a journal needs none of it.
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    # Optuna wraps what SQLAlchemy raises, most of the time. After a failure within a
    # transaction, SQLAlchemy raises the third whatever the first was.
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    broken = (OperationalError, InterfaceError, PendingRollbackError)
    return isinstance(cause, broken) or (
        isinstance(cause, DBAPIError) and cause.connection_invalidated
    )


def _say(state: tenacity.RetryCallState) -> None:
    """Once for each call that has to wait."""
    error = None if state.outcome is None else state.outcome.exception()
    if error is not None and state.attempt_number == 1:
        logger.warning(
            "the study storage does not answer (%s): waiting up to %.0f s",
            first_line(error.__cause__ or error),
            PATIENCE_SECONDS,
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's notes that an API is experimental: its version is pinned."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        yield
