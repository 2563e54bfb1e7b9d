"""Which errors of MLflow are worth waiting for."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    PendingRollbackError,
)

from search.tracking.connection import is_passing


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (OperationalError("INSERT", {}, Exception("database is locked")), True),
        (MlflowException("x", error_code=TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("x", error_code=INTERNAL_ERROR), True),
        (MlflowException("the connection is closed", error_code=BAD_REQUEST), True),
        (ConnectionRefusedError("no"), True),
        (TimeoutError("no answer"), True),
        (MlflowException("no", error_code=INVALID_PARAMETER_VALUE), False),
        (MlflowException("no", error_code=RESOURCE_DOES_NOT_EXIST), False),
        (ZeroDivisionError(), False),
    ],
)
def test_what_is_worth_waiting_for(error: Exception, passing: bool) -> None:
    assert is_passing(error) == passing


@pytest.mark.parametrize(
    ("cause", "passing"),
    [
        # What a database refuses is refused for good, whatever words are among the values.
        (DataError("INSERT", {"reason": "the connection broke"}, Exception("a NUL")), False),
        (IntegrityError("INSERT", {}, Exception("a connection, twice")), False),
        (PendingRollbackError("Can't reconnect until invalid transaction is rolled back."), True),
        (DBAPIError("INSERT", {}, Exception("gone"), connection_invalidated=True), True),
    ],
)
def test_what_mlflow_calls_a_bad_request_is_judged_by_its_cause(
    cause: Exception, passing: bool
) -> None:
    error = MlflowException(str(cause), error_code=BAD_REQUEST)
    error.__cause__ = cause
    assert is_passing(error) == passing


def test_values_in_a_servers_answer_are_not_read_for_its_cause() -> None:
    values = "(psycopg.DataError) a NUL\n[SQL: INSERT]\n[parameters: ('a connection error')]"
    assert not is_passing(MlflowException(values, error_code=BAD_REQUEST))
