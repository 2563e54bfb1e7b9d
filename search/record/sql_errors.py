"""What the errors of SQLAlchemy mean."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError


def is_broken_connection(error: BaseException | None) -> bool:
    """The same may succeed by another connection."""
    # After a failure within a transaction, SQLAlchemy says the third whatever the first was.
    broken = (OperationalError, InterfaceError, PendingRollbackError)
    return isinstance(error, broken) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
