"""The storage of a study's record: Optuna's, in a journal file or in a database on a server."""

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import optuna
import tenacity
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState

from search.record.files.journal import Journal
from trainables.addresses import check_tables, damaged, first_line, local_file, refused
from trainables.errors import UserError
from trainables.terminal.command_line import masked

PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 1.0

_STUDY_ID = "study_id"  # an attribute of the study
# The two user attributes of a trial: a single one is written ten times as fast as many.
GIVEN = "given"  # what it was given when it was handed out
OUTCOME = "outcome"  # what had become of it when it ended
_ENDED = "another program ended it in the study storage"
_MAX_SINCE = 10  # trials that others may have added since one of ours

# Optuna's version is pinned: that some of it is experimental is no news.
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

logger = logging.getLogger(__name__)


def open_storage(address: str) -> optuna.storages.BaseStorage:
    """Return Optuna's storage at an address.

    Raises what SQLAlchemy raises where the server does not answer, OSError for a journal that
    cannot be made, and `UserError` for a damaged one.
    """
    path = local_file(address, "journal")
    if path is not None:
        try:
            return optuna.storages.JournalStorage(Journal(str(path)))
        except (UserError, OSError):
            raise
        except Exception as error:  # of lines that another program wrote
            raise damaged(path) from error
    import sqlalchemy

    # PostgreSQL's: otherwise one that accepts a connection and says nothing is waited for for ever.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    if local_file(address) is None:  # of a file, `check_answers` has looked
        check_server("--study-storage", address)
    # Connections are tried before they are used: a restarted server costs no error.
    storage = optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
    sqlalchemy.event.listen(storage.engine, "handle_error", _raise_broken)
    return storage


def check_server(option: str, address: str) -> None:
    """Raise `UserError` for a server's database that another program uses.

    Raises what SQLAlchemy raises where it does not answer.
    """
    import sqlalchemy

    engine = sqlalchemy.create_engine(address)
    try:
        check_tables(option, address, sqlalchemy.inspect(engine).get_table_names())
    finally:
        engine.dispose()


class BrokenConnection(RuntimeError):
    """The connection to the study storage broke: the same call may succeed over another one."""


def _raise_broken(context: Any) -> None:
    """Replace SQLAlchemy's error: after that one, Optuna (5.0) itself adds a trial once more,
    though the server may have added it unanswered."""
    error = context.sqlalchemy_exception
    if context.is_disconnect or (error is not None and is_broken_connection(error)):
        raise BrokenConnection(first_line(context.original_exception))


def is_broken_connection(error: BaseException) -> bool:
    """Return whether the same call may succeed over another connection."""
    # Loaded late: a journal needs none of it.
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

    # Optuna wraps what SQLAlchemy raises, most of the time. After a failure within a
    # transaction, SQLAlchemy raises the third whatever the first was.
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    broken = (BrokenConnection, OperationalError, InterfaceError, PendingRollbackError)
    return isinstance(cause, broken) or (
        isinstance(cause, DBAPIError) and cause.connection_invalidated
    )


def _say(state: tenacity.RetryCallState) -> None:
    error = None if state.outcome is None else state.outcome.exception()
    if error is not None and state.attempt_number == 1:  # once for each call that has to wait
        logger.warning(
            "the study storage does not answer (%s): waiting up to %.0f s",
            first_line(error.__cause__ or error),
            PATIENCE_SECONDS,
        )


# For calls that do nothing a second time: the first may have been carried out unanswered.
_patient = tenacity.retry(
    retry=tenacity.retry_if_exception(is_broken_connection),
    stop=lambda state: (state.seconds_since_start or 0.0) >= PATIENCE_SECONDS,
    wait=tenacity.wait_fixed(_RETRY_SECONDS),
    before_sleep=_say,
    reraise=True,
)


class StudyRecord:
    """One study in an Optuna storage. One driver writes it; other processes may read.

    Every call survives a server that is away or restarted: it is repeated for up to
    `PATIENCE_SECONDS`, then raises `BrokenConnection`. Nothing is written twice.
    """

    def __init__(
        self, address: str, storage: optuna.storages.BaseStorage, study: optuna.Study
    ) -> None:
        self._journal = local_file(address, "journal")
        self._storage = storage
        self.study = study
        study.sampler = optuna.samplers.RandomSampler()  # draws nothing: see `end`
        self._said_others = False
        self._study_id = storage.get_study_id_from_name(study.study_name)

    @classmethod
    def create(
        cls, address: str, name: str, directions: Mapping[str, str], study_id: str = ""
    ) -> Self:
        """Create or load a study. directions: "minimize" or "maximize", by objective.

        study_id: as `study.json` has it. Raises `UserError` where the storage cannot be opened
        or holds another study of the name, to which nothing is written.
        """
        with _opened(address) as storage:
            wanted = list(directions.values())
            try:
                study = optuna.create_study(study_name=name, storage=storage, directions=wanted)
            except optuna.exceptions.DuplicatedStudyError:
                study = optuna.load_study(study_name=name, storage=storage)
                _require_same(study, address, study_id, wanted)
            if _STUDY_ID not in study.user_attrs:
                study.set_metric_names(list(directions))
                study.set_user_attr(_STUDY_ID, study_id)
            return cls(address, storage, study)

    @classmethod
    def load(cls, address: str, name: str, study_id: str = "") -> Self:
        """Load a study that exists; arguments and errors as of `create`."""
        path = local_file(address)
        if path is not None and not path.exists():
            raise refused("--study-storage", address, KeyError("no such file"))
        with _opened(address) as storage:
            try:
                study = optuna.load_study(study_name=name, storage=storage)
            except KeyError:
                raise UserError(
                    f"`--study-storage` must be a database with the study {name!r}, which has a "
                    f"folder, got {masked(address)!r} without it: it was deleted or renamed there; "
                    f"restore that from a copy, or `search delete {name}` and start again"
                ) from None
            _require_same(study, address, study_id)
            return cls(address, storage, study)

    @_patient
    def trials(self, wanted: Callable[[int], bool] = lambda number: True) -> list[FrozenTrial]:
        """Return the `wanted` trials by number, with their attributes at the top.

        Those that another program added are passed over, with a word.
        """
        ours: dict[int, FrozenTrial] = {}  # by number among the study's own
        others = []
        for trial in self.study.get_trials(deepcopy=False):
            own = trial.user_attrs.get(GIVEN)
            if isinstance(own, dict) and own.get("number", trial.number) not in ours:
                ours[own.get("number", trial.number)] = trial
            else:
                others.append(trial.number)
        if others and not self._said_others:
            self._said_others = True
            logger.warning(
                "passed over: trials %s of %s, which another program added to the study storage; "
                "a configuration of your own is run by `search run` with --set",
                ", ".join(map(str, others)),
                self.study.study_name,
            )
        return [flattened(copy.deepcopy(t)) for t in ours.values() if wanted(t.number)]

    @_patient
    def num_trials(self) -> int:
        """Return how many trials there are, whoever added them."""
        return len(self.study.get_trials(deepcopy=False))

    @_patient
    def add(self, template: FrozenTrial) -> int:
        """Add a trial, whose user attributes no other has; return its id to write it with."""
        for trial in self.study.get_trials(deepcopy=False)[: -_MAX_SINCE - 1 : -1]:
            if trial.user_attrs == template.user_attrs:  # added, without an answer
                return self.id_of(trial.number)
        return self._storage.create_new_trial(self._study_id, template_trial=template)

    @_patient
    def number_of(self, trial_id: int) -> int:
        """Return the number of the trial with that id."""
        return self._storage.get_trial(trial_id).number

    @_patient
    def id_of(self, number: int) -> int:
        """Return the id of the trial of that number."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    @_patient
    def note(self, trial_id: int, name: str, value: Any) -> None:
        """Set a user attribute of a trial that has not ended."""
        self._storage.set_trial_user_attr(trial_id, name, value)

    @_patient
    def end(
        self,
        trial_id: int,
        state: TrialState,
        values: Sequence[float] | None,
        violations: Mapping[str, float],
    ) -> None:
        """Give a trial its final state; one that has it already stays as it is.

        values: one for each objective, of a complete trial. violations: of the constraints by
          name, positive where missed.
        """
        if self._storage.get_trial(trial_id).state.is_finished():
            return
        if violations:
            trial = Trial(self.study, trial_id)
            for name, value in violations.items():
                trial.set_constraint(name, value)
        self._storage.set_trial_state_values(trial_id, state, values)

    def flush(self) -> None:
        """Have the record on the disk; a database has it there already."""
        if self._journal is not None:
            Journal(str(self._journal)).flush()


def _require_same(
    study: optuna.Study, address: str, study_id: str, directions: Sequence[str] | None = None
) -> None:
    """Raise `UserError` for a study of the same name that another folder or program writes.

    directions: of an own one that may lack its mark, since its driver was killed when it began.
    """
    known = study.user_attrs.get(_STUDY_ID)
    same = not known or not study_id or known == study_id
    if directions is not None and known is None:
        found = [direction.name.lower() for direction in study.directions]
        same = found == list(directions) and not (study.user_attrs or study.trials)
    if not same:
        raise UserError(
            f"the study {study.study_name!r} in {masked(address)!r} must be the one of this "
            "folder, got another study of that name; give yours another --name or --study-storage"
        )


def flattened(trial: FrozenTrial) -> FrozenTrial:
    """Return the trial with what it was given, and what became of it, at the top.

    Its user attributes then are `params`, `seed`, `config` (nested; not of a refused one),
    `reference`, `number` (among the study's own, without what another program added), and of an
    ended one also `status`, `reason`, `metrics` and `fraction`.
    """
    for name in (GIVEN, OUTCOME):
        trial.user_attrs |= trial.user_attrs.pop(name, {})
    if trial.state.is_finished() and "status" not in trial.user_attrs:
        trial.user_attrs |= {"status": "failed", "reason": _ENDED, "metrics": {}, "fraction": 0.0}
    return trial


@contextlib.contextmanager
def _opened(address: str) -> Iterator[optuna.storages.BaseStorage]:
    """Raises `UserError` for whatever goes wrong with the storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield open_storage(address)
    except UserError:
        raise
    except Exception as error:
        raise refused("--study-storage", address, error) from None
