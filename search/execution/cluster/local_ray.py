"""A local Ray of one launch: on loopback alone, with a folder and a token that are its user's.

Whoever reaches one of Ray's ports and shows its token can run code as the user of the study.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from trainables.errors import UserError

_TOKEN = secrets.token_hex(32)  # Ray reads one once in a process
# What Ray appends for its longest socket, and where a path's room for one ends.
_SOCKET = f"/ray/session_2026-01-01_00-00-00_000000_{2**22}/sockets/plasma_store"
_MAX_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
_MIN_FREE_BYTES = 64 << 20  # for logs; the object store is held in memory, where there is room
_OF_USERS = ("RAY_TMPDIR", "TMPDIR")
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")
_MAX_CHARACTERS = 300
# The lines that Ray marks as errors in its processes' logs.
_COMPLAINT = re.compile(r"^\[[^\]]* [ECF] [^\]]*\] (?:\(\w+\) )?\S+: (.+)", re.MULTILINE)


@contextlib.contextmanager
def local_environment() -> Iterator[Path]:
    """Set the environment of a local Ray, and undo that; yield its folder, deleted at the end.

    A token or a mode of the user's is for their cluster, and `disabled` would let everybody in.
    """
    scratch = _make_scratch()
    token = scratch / "auth_token"
    token.touch(mode=0o600)
    token.write_text(_TOKEN)
    ours = {"RAY_TMPDIR": str(scratch), "RAY_AUTH_TOKEN_PATH": str(token)}
    names = (*ours, "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")  # Ray turns tokens on where no mode is set
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ.update(ours)
    try:
        yield scratch
    finally:
        end_processes(scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _make_scratch() -> Path:
    """Make a folder in which Ray can have its sockets. Raises `UserError` where there is none."""
    refused = []
    for place in dict.fromkeys([*filter(None, map(os.environ.get, _OF_USERS)), *_SHORT]):
        scratch = None
        try:
            scratch = tempfile.mkdtemp(prefix="ray-", dir=os.path.abspath(place))  # mode 0700
            room = _MAX_SOCKET_BYTES - len(os.fsencode(scratch + _SOCKET))
            if room < 0:
                raise OSError(0, f"{-room} bytes too long a path for Ray's sockets")
            with socket.socket(socket.AF_UNIX) as probe:
                probe.bind(f"{scratch}/socket")
            if shutil.disk_usage(scratch).free < _MIN_FREE_BYTES:
                raise OSError(0, "full")
            return Path(scratch)
        except OSError as error:
            refused.append(f"{place} ({error.strerror or error})")
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
    raise UserError(
        "Ray needs a folder for its sockets and logs that is writable and has a short path, got "
        f"{', '.join(refused)}; name another one by TMPDIR"
    )


def processes(scratch: Path) -> set[psutil.Process]:
    """Return those of the local Ray with this folder: children of ours that name it, and theirs."""
    found = set()
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if any(str(scratch) in argument for argument in child.cmdline()):
                    found |= {child, *child.children(recursive=True)}
    return found


def end_processes(scratch: Path, known: Iterable[psutil.Process] = ()) -> None:
    """Kill the processes of a local Ray, and `known` ones of it that lost their parent."""
    left = processes(scratch) | set(known)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()  # a number that is another process's by now is left alone
    psutil.wait_procs(left, timeout=3.0)


def complaint(scratch: Path) -> str:
    """Return the last error in the logs of a local Ray, or ''."""
    found = ""
    for path in sorted(scratch.glob("ray/session_*/logs/*.*")):
        if path.is_file() and not path.is_symlink():
            found = [found, *_COMPLAINT.findall(path.read_text(errors="replace"))][-1]
    return found.rpartition("Check failed: ")[2].strip()[:_MAX_CHARACTERS]
