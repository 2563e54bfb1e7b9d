"""Handles addresses of databases and servers: hides passwords and checks that they answer.

It needs only the standard library, so that a mistyped address fails within a second, before MLflow
is imported.
"""

import contextlib
import errno
import os
import socket
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from trainables.errors import UserError
from trainables.terminal.command_line import masked

PROBE_SECONDS = 3.0
ARTIFACTS = "mlartifacts"  # the folder beside a SQLite file where MLflow keeps files
_ASIDE = "(raised as a result of"  # SQLAlchemy says where before it says what
TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
STUDY_SCHEMES = ("journal", "sqlite", "postgresql", "mysql")
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
# What would end a path in an address, or be read as another character.
_QUOTED = str.maketrans({character: quote(character) for character in "%?#&"})
_TABLES = {"--tracking-uri": "experiments", "--study-storage": "studies"}  # that each one has
_OF_SQLITE = {"uri", "mode", "cache", "immutable", "nolock", "vfs"}  # arguments of its own URIs
_LOCK_SECONDS = 10.0  # a study that shares the file holds it for moments
_REMEDIES = (  # by words of an error
    (("locked",), "another program holds it; close that one, then run the same command again"),
    (
        ("readonly", "read-only", "permission denied", "unable to open", "not writable"),
        "make the file and its folder writable, or name another",
    ),
    (
        ("schema", "locate revision"),
        "another release of MLflow or Optuna made it: install that one, or upgrade an older file, "
        "after a backup, by `mlflow db upgrade` or `optuna storage upgrade`",
    ),
)
_HEADERS = {"sqlite": b"SQLite format 3\x00", "journal": b'{"op_code"'}


def without_password(address: str) -> str:
    """Return the address without its password, as it is written to files."""
    return masked(address).replace(":***@", "@", 1)


def scrubbed(text: str, address: str) -> str:
    """Return another library's message about `address`, without the password in it."""
    try:
        password = urlsplit(address).password
    except ValueError:
        password = None
    text = masked(text)
    return text.replace(password, "***") if password else text


def absolute(address: str) -> str:
    """Return the address with the path of a local file made absolute."""
    path, rest = local_file(address), "".join(address.partition("?")[1:])
    return address if path is None else file_address(address.partition(":")[0], path) + rest


def file_address(scheme: str, path: Path) -> str:
    """Return the address of a local file, for `local_file`, SQLAlchemy and MLflow alike."""
    quoted = str(path).translate(_QUOTED)
    if scheme == "sqlite" and quoted != str(path):
        scheme = "sqlite+pysqlite"  # of `sqlite:///`, MLflow also makes the quoted folder
    return f"{scheme}:///{quoted}"


def local_file(address: str, *schemes: str) -> Path | None:
    """Return the file of an address; None for servers, memory, URIs of SQLite, other schemes.

    schemes: `sqlite` or `journal` (Optuna's); both if none is given. `%20` and the like are
    decoded, as SQLAlchemy does.
    """
    scheme, _, path = address.partition("?")[0].partition(":///")
    known = path and scheme.partition("+")[0] in (schemes or _HEADERS)
    known = known and not path.startswith((":memory:", "file:"))  # SQLite's own, of no file
    return Path(unquote(path)).expanduser().absolute() if known else None


def choose(option: str | None, variable: str, recorded: str | None, default: str) -> str:
    """Return the option, else what the study recorded, else the environment, else the default.

    A recorded address holds no password. If the environment's `variable` names the same place
    with a password, that address is used.
    """
    if option:
        return absolute(option)
    from_environment = os.environ.get(variable, "")
    if recorded is None:
        return absolute(from_environment) if from_environment else default
    return from_environment if without_password(from_environment) == recorded else recorded


def check_answers(option: str, address: str, schemes: tuple[str, ...]) -> None:
    """Raise `UserError` within seconds if nothing answers at the address; write nothing.

    option: the command-line option for the message. schemes: those it takes, without `+driver`.
    """
    try:
        parts = urlsplit(address)
        scheme = parts.scheme.partition("+")[0]
        if scheme not in schemes:
            raise ValueError(f"it must begin with {', '.join(f'{s}://' for s in schemes)}")
        if scheme in _HEADERS:
            path = local_file(address)
            if path is None:
                raise ValueError(f"it must read {scheme}:///PATH; memory is lost with its process")
            if own := _OF_SQLITE & parse_qs(parts.query, keep_blank_values=True).keys():
                raise ValueError(f"it must have no {' or '.join(sorted(own))}, which is of SQLite")
            if path.exists() and not path.is_file():  # a folder, a pipe: opened, it may hang
                raise OSError("it is there, and is no file")
            _check_header(path, scheme)
            if scheme == "sqlite" and path.is_file():
                check_tables(option, address, _tables_of(path))
        elif not parts.hostname and scheme in ("http", "https"):
            raise ValueError(f"it must read {scheme}://HOST:PORT")
        elif parts.hostname:
            where = (parts.hostname, parts.port or _PORTS[scheme])
            socket.create_connection(where, timeout=PROBE_SECONDS).close()
    except UserError:
        raise
    except (OSError, ValueError, sqlite3.Error) as error:
        raise refused(option, address, error) from None


def check_tables(option: str, address: str, tables: Iterable[str]) -> None:
    """Raise `UserError` for a file with tables of another program alone, and for a database where
    one's version of the schema would be taken for the other's."""
    tables = set(tables)
    found = sorted(name for name in tables if not name.startswith(("alembic_", "sqlite_")))
    clash = "alembic_version" in tables or local_file(address) is not None
    if found and clash and _TABLES[option] not in found:
        owner = "MLflow" if option == "--tracking-uri" else "Optuna"
        raise UserError(
            f"`{option}` must be a database of {owner} or a new one, got {masked(address)!r} with "
            f"the tables {', '.join(found[:5])} of another program; name another database"
        )


def check_two(tracking_uri: str, study_storage: str) -> None:
    """Raise `UserError` where MLflow and Optuna would share a database: their versions clash."""
    if _place(tracking_uri) == _place(study_storage):
        raise UserError(
            "`--study-storage` must be another database than `--tracking-uri`, got "
            f"{masked(study_storage)!r} for both, where each would take the other's schema for its "
            "own; name two, or leave --study-storage out"
        )


def _place(address: str) -> object:
    path, parts = local_file(address), urlsplit(address)
    return path.resolve() if path else (parts.netloc.rpartition("@")[2], parts.path)


def check_writable(option: str, address: str) -> None:
    """Raise `UserError` where a file is locked, read-only or cannot be; write nothing."""
    path = local_file(address)
    if path is None:
        return
    try:
        folder = next(parent for parent in path.parents if parent.exists())
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{str(folder)!r} is a file, not a folder")
        if path.is_file() and not os.access(path, os.W_OK):
            raise PermissionError(f"{str(path)!r} is not writable")
        if path.is_file() and local_file(address, "sqlite"):
            with _sqlite(path, "rw") as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
        if not os.access(folder, os.W_OK):  # SQLite puts its journal there
            raise PermissionError(f"the folder {str(folder)!r} is not writable")
    except (OSError, sqlite3.Error) as error:
        raise refused(option, address, error) from None


def _sqlite(path: Path, mode: str) -> contextlib.closing[sqlite3.Connection]:
    uri = f"file:{quote(str(path))}?mode={mode}"
    return contextlib.closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS))


def _tables_of(path: Path) -> list[str]:
    with _sqlite(path, "ro") as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return [str(name) for (name,) in found]


def left_behind(tracking_uri: str, location: str) -> Path | None:
    """Return the folder that MLflow's SQLite file was moved or copied from; None if it was not.

    location: of an experiment's or a run's artifacts; MLflow has no call to change it.
    """
    path, parts = local_file(tracking_uri, "sqlite"), urlsplit(location)
    folder = Path(unquote(parts.path) if parts.scheme == "file" else location)
    if path is None or parts.scheme not in ("", "file") or ARTIFACTS not in folder.parts:
        return None
    while folder.name != ARTIFACTS:
        folder = folder.parent
    return None if folder.resolve() == (path.parent / ARTIFACTS).resolve() else folder.parent


def check_ray_answers(address: str) -> None:
    """Raise `UserError` if no Ray cluster answers; `local` is not checked, nor what Ray finds.

    `auto` is the cluster of RAY_ADDRESS, where that is set.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or address
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
            "use local, start one with `ray start --head`, or see to RAY_ADDRESS, which auto means"
        ) from None


def _check_header(path: Path, scheme: str) -> None:
    """Raise `UserError` for a foreign file; a missing or empty file is accepted."""
    wanted, header = _HEADERS[scheme], b""
    if path.is_file():
        with path.open("rb") as file:
            header = file.read(len(wanted))
    # A journal's first line may be cut short; such a line is removed before another is written.
    if not wanted.startswith(header.partition(b"\n")[0] if scheme == "journal" else header):
        raise damaged(path, scheme)


def damaged(path: Path, scheme: str = "journal") -> UserError:
    """Return the error for a file that is not a database of its kind."""
    wanted = "a journal of Optuna" if scheme == "journal" else "a SQLite database"
    return UserError(
        f"{str(path)!r} must be {wanted}, got a damaged or foreign file; restore it from a copy, "
        "or move it away to start without what it held"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type if it has none."""
    lines = [line for line in str(error).strip().splitlines() if not line.startswith(_ASIDE)]
    return (lines or [type(error).__name__])[0]


def refused(option: str, address: str, error: BaseException) -> UserError:
    """Return the error for an address that cannot be used."""
    kind = "an MLflow server or database" if option == "--tracking-uri" else "a database"
    said = scrubbed(first_line(error), address)
    remedy = "start it, or leave the option out for a local file"
    known = [text for words, text in _REMEDIES if any(word in said.lower() for word in words)]
    if known:
        remedy = known[0]
    elif local_file(address) is not None:
        remedy = "restore it from a copy, or leave the option out"
    elif "@" in address and masked(address) == address:
        variable = "MLFLOW_TRACKING_URI" if option == "--tracking-uri" else "DISPARSE_STUDY_STORAGE"
        remedy = f"start it; its password is not recorded: set {variable} to the whole address"
    return UserError(
        f"`{option}` must be {kind} that answers, got {masked(address)!r} ({said}); {remedy}"
    )
