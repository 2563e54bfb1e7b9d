"""Optuna's storage, over a database that may be restarted while a study runs."""

import logging
import time
from typing import Any

import optuna
from sqlalchemy import event

PATIENCE_SECONDS = 120.0
_RETRY_SECONDS = 1.0

logger = logging.getLogger(__name__)


def open_storage(address: str) -> optuna.storages.RDBStorage | str:
    """For `optuna.create_study`; a SQLite file, which nobody restarts, goes by its address.

    A server's connections are tried before they are used. Where one broke, a new one is made,
    for which a server that is away is waited for, `PATIENCE_SECONDS` long: trials go on
    meanwhile, and only a transaction that was under way at that very moment fails.

    Raises what SQLAlchemy raises where the server does not answer at once, this first time.
    """
    if address.startswith("sqlite"):
        return address
    storage = optuna.storages.RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
    event.listen(storage.engine, "do_connect", _connect)
    return storage


def _connect(dialect: Any, record: Any, arguments: Any, settings: Any) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    said = False
    while True:
        try:
            return dialect.connect(*arguments, **settings)
        except dialect.loaded_dbapi.OperationalError as error:
            if time.monotonic() >= deadline:
                raise
            if not said:
                said = True
                line = str(error).strip().splitlines()[0]
                logger.warning(
                    "the study storage is away (%s): waiting up to %.0f s", line, PATIENCE_SECONDS
                )
            time.sleep(_RETRY_SECONDS)
