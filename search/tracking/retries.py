"""Calls of an MLflow server that may be away, or refuse."""

import threading
from collections.abc import Callable

from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from search.record.addresses import first_line
from search.record.sql_errors import is_broken_connection

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)


class GaveUp(Exception):
    """The server is away, and waiting for it was called off."""


class Retries:
    """Makes calls until the server answers, one after another, so that their order is kept.

    on_progress: called after every answer. on_trouble: told, once per call, why it has to wait.
    give_up: once set, a call that fails raises `GaveUp` instead of waiting.
    num_changes: what calls changed, as they say by `changed`. refused: the subjects of calls that
    the server refused. problem: the last refusal or trouble.
    """

    def __init__(
        self,
        on_progress: Callable[[], None],
        on_trouble: Callable[[str], None],
        give_up: threading.Event,
    ) -> None:
        self.on_progress = on_progress
        self._on_trouble = on_trouble
        self._give_up = give_up
        self.num_changes = 0
        self.num_refused = 0
        self.refused: set[str] = set()
        self.problem = ""

    def changed(self, times: int = 1) -> None:
        self.num_changes += times
        self.on_progress()

    def insist(
        self, subject: str, attempt: Callable[[bool], object], *, count: bool = True
    ) -> bool:
        """Try until the server answers; False where it refuses. Raises `GaveUp`.

        attempt: told whether an earlier try may have been carried out without an answer.
        count: whether a refusal is the last word.
        """
        tries = 0
        while True:
            try:
                attempt(tries > 0)
                return True
            except Exception as error:
                self.problem = first_line(error)
                if not is_passing(error):
                    if count:
                        self.num_refused += 1
                        self.refused.add(subject)
                        self._on_trouble(f"{self.problem}; not written")
                    return False
                if tries == 0:
                    self._on_trouble(f"{self.problem}; will try again")
                if self._give_up.wait(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]):
                    raise GaveUp(self.problem) from error
                tries += 1


def is_passing(error: BaseException) -> bool:
    """Whether waiting may help: a refused value will be refused again."""
    if isinstance(error, MlflowException):
        # MLflow calls a connection that broke in the database's driver a bad request. Only the
        # first line of a server's answer says so: values, which are anything, follow.
        if error.error_code == "BAD_REQUEST":
            cause = error.__cause__
            if isinstance(cause, SQLAlchemyError):
                return is_broken_connection(cause)
            return "connect" in first_line(error).lower()
        return error.error_code not in (
            "INVALID_PARAMETER_VALUE",
            "RESOURCE_DOES_NOT_EXIST",
            "RESOURCE_ALREADY_EXISTS",
        )
    return isinstance(error, OSError) or is_broken_connection(error)
