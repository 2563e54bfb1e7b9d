"""The storage of a study's record: a journal in a file, or a database server."""

import optuna

from search.record.addresses import damaged_journal, journal_file
from search.record.journal import Journal


def open_storage(address: str) -> optuna.storages.BaseStorage:
    """For `optuna.create_study` and `optuna.load_study`.

    A journal is a file of lines, one for every change: written in a fraction of the time of a
    transaction of SQLite, and safe on a network file system, which SQLite is not. A server may be
    restarted meanwhile, see `search.record.database`.

    Raises what SQLAlchemy raises where the server does not answer at once, this first time;
    OSError for a journal that cannot be made, and `UserError` for a damaged one.
    """
    path = journal_file(address)
    if path is not None:
        try:
            return optuna.storages.JournalStorage(Journal(str(path)))
        except (ValueError, KeyError) as error:  # of JSON, and of what a line lacks
            raise damaged_journal(path) from error
    if address.startswith("sqlite"):
        return optuna.storages.get_storage(address)  # a file, which nobody restarts
    from search.record.database import Database  # loads SQLAlchemy

    return Database(address)


def flush(storage: optuna.storages.BaseStorage) -> None:
    """Have the record on the disk; a database has it there already."""
    if isinstance(storage, optuna.storages.JournalStorage):
        backend = storage._backend
        if isinstance(backend, Journal):
            backend.flush()
