"""Handles addresses of databases and servers: hides passwords and checks that they answer.

It needs only the standard library, so that a mistyped address fails within a second, before MLflow
is imported.
"""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from trainables.command_line import masked
from trainables.errors import UserError

PROBE_SECONDS = 3.0
_ASIDE = "(raised as a result of"  # SQLAlchemy says where before it says what
TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
STUDY_SCHEMES = ("journal", "sqlite", "postgresql", "mysql")
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
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
    path = local_file(address)
    scheme, rest = address.partition(":")[0], "".join(address.partition("?")[1:])
    return address if path is None else f"{scheme}:///{path}{rest}"


def local_file(address: str, *schemes: str) -> Path | None:
    """Return the file of an address; None for servers, for memory, and for other schemes.

    schemes: `sqlite` or `journal` (Optuna's); both if none is given.
    """
    scheme, _, path = address.partition("?")[0].partition(":///")
    known = path and scheme in (schemes or _HEADERS)
    return Path(path).expanduser().absolute() if known else None


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
            _check_header(path, scheme)
        elif parts.hostname:
            where = (parts.hostname, parts.port or _PORTS[scheme])
            socket.create_connection(where, timeout=PROBE_SECONDS).close()
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise refused(option, address, error) from None


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
    if "@" in address and masked(address) == address:
        variable = "MLFLOW_TRACKING_URI" if option == "--tracking-uri" else "DISPARSE_STUDY_STORAGE"
        remedy = f"start it; its password is not recorded: set {variable} to the whole address"
    return UserError(
        f"`{option}` must be {kind} that answers, got {masked(address)!r} ({said}); {remedy}"
    )
