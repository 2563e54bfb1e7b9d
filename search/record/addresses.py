"""Addresses of databases and servers: passwords stay out of sight, silence is found at once.

Standard library only, so that a mistyped address costs a second and not the import of MLflow.
"""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from trainables.command_line import masked
from trainables.errors import UserError

PROBE_SECONDS = 3.0
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SQLITE = "sqlite:///"
_JOURNAL = "journal:///"
_MAX_FIRST_LINE = 1000
_JOURNAL_HEADER = b'{"op_code"'
_SQLITE_HEADER = b"SQLite format 3\x00"
TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
STUDY_SCHEMES = ("journal", "sqlite", "postgresql", "mysql")


def without_password(address: str) -> str:
    """For files: a password is asked for again, from an option or the environment."""
    return masked(address).replace(":***@", "@", 1)


def scrubbed(text: str, address: str) -> str:
    """Somebody else's message about `address`, without its password."""
    try:
        password = urlsplit(address).password
    except ValueError:
        password = None
    text = masked(text)
    return text.replace(password, "***") if password else text


def absolute(address: str) -> str:
    """A file named from the current folder, named from the root."""
    path = local_file(address)
    if path is None:
        return address
    return f"{_JOURNAL if address.startswith(_JOURNAL) else _SQLITE}{path}"


def local_file(address: str) -> Path | None:
    """The file of an address; None for servers, and for memory."""
    return sqlite_file(address) or journal_file(address)


def sqlite_file(address: str) -> Path | None:
    """The file of a SQLite address; None for all others, and for SQLite in memory."""
    return _file(address, _SQLITE)


def journal_file(address: str) -> Path | None:
    """The file of an address of an Optuna journal; None for all others."""
    return _file(address, _JOURNAL)


def _file(address: str, beginning: str) -> Path | None:
    if not address.startswith(beginning) or address == beginning:
        return None
    return Path(address.removeprefix(beginning)).expanduser().absolute()


def choose(option: str | None, variable: str, recorded: str | None, default: str) -> str:
    """Return the option, else what the study recorded, else the environment, else the default.

    A recorded address holds no password: where the environment's `variable` names the same
    place with one, that is used.
    """
    if option:
        return absolute(option)
    from_environment = os.environ.get(variable, "")
    if recorded is None:
        return absolute(from_environment) if from_environment else default
    if from_environment and without_password(from_environment) == recorded:
        return from_environment
    return recorded


def check_answers(option: str, address: str, schemes: tuple[str, ...]) -> None:
    """Raises `UserError` within seconds where nobody listens; writes nothing.

    option: the command-line option to name. schemes: those it takes, without `+driver`.
    """
    try:
        parts = urlsplit(address)
        scheme = parts.scheme.partition("+")[0]
        if scheme not in schemes:
            raise ValueError(f"it must begin with {', '.join(f'{s}://' for s in schemes)}")
        if scheme == "sqlite":
            if sqlite_file(address) is None:
                raise ValueError("it must read sqlite:///PATH; memory is lost with its process")
            _require_sqlite(sqlite_file(address))
        elif scheme == "journal":
            _require_journal(journal_file(address))
        elif parts.hostname:
            where = (parts.hostname, parts.port or _PORTS[scheme])
            socket.create_connection(where, timeout=PROBE_SECONDS).close()
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise refused(option, address, error) from None


def check_ray_answers(address: str) -> None:
    """The same for `--ray-address`; `local` and `auto` are Ray's to find."""
    if address in ("local", "auto"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"ray://{address}")
        if not parts.hostname or not parts.port:
            raise ValueError("it must read HOST:PORT, or be local or auto")
        socket.create_connection((parts.hostname, parts.port), timeout=PROBE_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"`--ray-address` must be a Ray cluster that answers, got {address!r} ({error}); "
            "use local, or start one with `ray start --head`"
        ) from None


def _require_sqlite(path: Path | None) -> None:
    if path is None or not path.is_file() or path.stat().st_size == 0:
        return  # in memory, or yet to be made
    with path.open("rb") as file:
        if file.read(len(_SQLITE_HEADER)) != _SQLITE_HEADER:
            raise UserError(
                f"{str(path)!r} must be a SQLite database, got a damaged or foreign file; restore "
                "it from a copy, or move it away to start without what it held"
            )


def _require_journal(path: Path | None) -> None:
    if path is None:
        raise ValueError("it must read journal:///PATH")
    if not path.is_file() or path.stat().st_size == 0:
        return  # yet to be made
    with path.open("rb") as file:
        line = file.readline(_MAX_FIRST_LINE)
    # A first line may be cut short, as any last one: it is removed before the next.
    if not line.startswith(_JOURNAL_HEADER[: len(line)] if line[-1:] != b"\n" else _JOURNAL_HEADER):
        raise damaged_journal(path)


def damaged_journal(path: Path) -> UserError:
    return UserError(
        f"{str(path)!r} must be a journal of Optuna, got a damaged or foreign file; restore it "
        "from a copy, or move it away to start without what it held"
    )


def first_line(error: BaseException) -> str:
    """What an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def refused(option: str, address: str, error: BaseException) -> UserError:
    """The one message for an address that cannot be used."""
    kind = "an MLflow server or database" if option == "--tracking-uri" else "a database"
    said = scrubbed(first_line(error), address)
    return UserError(
        f"`{option}` must be {kind} that answers, got {masked(address)!r} ({said}); "
        "start it, or leave the option out for a local file"
    )
