"""A local Ray's folder, token and processes are its launch's own; another account gets nowhere."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from search.execution.cluster import local_ray
from search.execution.cluster.local_ray import (
    complaint,
    end_processes,
    local_environment,
    processes,
)
from trainables.errors import UserError

VARIABLES = ("RAY_TMPDIR", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folder_and_token_are_the_users_alone(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_token = tmp_path / "auth_token"
    open_token.write_text("everybody has read this")
    theirs = {"RAY_AUTH_TOKEN": "known", "RAY_AUTH_MODE": "disabled"}
    for name, value in {**theirs, "RAY_AUTH_TOKEN_PATH": str(open_token)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    before = {name: os.environ.get(name) for name in VARIABLES}
    old = os.umask(umask)
    try:
        with local_environment() as scratch:
            token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
            assert token.parent == scratch == Path(os.environ["RAY_TMPDIR"])
            assert (mode(scratch), mode(token)) == (0o700, 0o600)
            assert len(token.read_text()) == 64
            assert not {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE"} & set(os.environ)
            os.environ["RAY_AUTH_MODE"] = "token"  # as Ray does
    finally:
        os.umask(old)
    assert not scratch.exists()
    assert {name: os.environ.get(name) for name in VARIABLES} == before


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("kind", ["long", "missing", "a file", "read-only"])
def test_a_folder_that_cannot_hold_sockets_is_passed_over(
    variable: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {
        "long": tmp_path / ("x" * 90),
        "missing": tmp_path / "no such folder",
        "a file": tmp_path / "file",
        "read-only": Path("/proc"),
    }
    (tmp_path / "file").touch()
    places["long"].mkdir()
    monkeypatch.setenv(variable, str(places[kind]))
    with local_environment() as scratch:
        assert not scratch.is_relative_to(places[kind])
        longest = f"{scratch}/ray/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"
        assert len(longest) <= 107
    assert list(places["long"].iterdir()) == []


def test_without_any_folder_every_reason_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr(local_ray, "_SHORT", ("/proc", str(tmp_path / "none")))
    with pytest.raises(UserError) as raised, local_environment():
        pass
    said = str(raised.value)
    assert "too long a path for Ray's sockets" in said
    assert str(long) in said
    assert "/proc (" in said
    assert f"{tmp_path / 'none'} (No such file or directory)" in said
    assert "by TMPDIR" in said


SPAWN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_processes_of_the_launch_end_and_no_others() -> None:
    with local_environment() as scratch:
        arguments = [sys.executable, "-c", SPAWN]
        ours = subprocess.Popen([*arguments, f"--logs={scratch}/logs"], stdout=subprocess.PIPE)
        other = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        try:
            assert ours.stdout is not None
            assert other.stdout is not None
            below, elsewhere = int(ours.stdout.readline()), int(other.stdout.readline())
            assert {process.pid for process in processes(scratch)} == {ours.pid, below}
            orphan = psutil.Process(below)
            ours.kill()
            ours.wait()
            end_processes(scratch, {orphan})
            assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
            assert other.poll() is None
            psutil.Process(elsewhere).kill()
        finally:
            for process in (ours, other):
                process.kill()
                process.wait()


def test_the_last_complaint_of_the_logs_is_found(tmp_path: Path) -> None:
    assert complaint(tmp_path) == ""
    logs = tmp_path / "ray" / "session_1" / "logs"
    logs.mkdir(parents=True)
    stamp = "2026-11-29 21:45:06,723"
    (logs / "gcs_server.out").write_text(f"[{stamp} I 97 97] (gcs_server) a.cc:4: all is well\n")
    assert complaint(tmp_path) == ""
    (logs / "raylet.out").write_text(
        f"[{stamp} E 97 97] (raylet) b.cc:5: a first one\n"
        f"[{stamp} C 97 97] (raylet) b.cc:6:  Check failed: no port to be had \n"
        "*** StackTrace Information ***\n"
    )
    assert complaint(tmp_path) == "no port to be had"


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_local_ray_is_on_loopback_alone_and_lets_nobody_in(repository: Path) -> None:
    """Every socket that listens; who can read what; who can join."""
    program = Path(__file__).with_name("open_ray.py")
    environment = {**os.environ, "PYTHONPATH": str(repository), "RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=repository,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    if os.geteuid() != 0:
        print("not root: joining as another account was not tried")
    assert said[-1] == "all checked", said
    deadline = time.monotonic() + 10
    left = said[0].split()
    while alive := [pid for pid in left if psutil.pid_exists(int(pid))]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)
