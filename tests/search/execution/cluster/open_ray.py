"""Starts a local Ray as a study does and attacks it: prints its processes, then `all checked`."""

import contextlib
import ipaddress
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from search.execution.cluster.local_ray import processes
from search.execution.cluster.ray_cluster import ray_cluster, set_ray_environment

JOIN = "import ray, sys; ray.init(address=sys.argv[1]); print('joined', ray.nodes())"
NOBODY = 65534
# Ray itself tries for a minute, and takes 127.0.0.1 for another address of the host.
QUICK = {"RAY_NUM_REDIS_GET_RETRIES": "2", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


ATTACKS = {
    "without a token": {"RAY_AUTH_MODE": "disabled"},
    "with a guess": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4},
}


def join(address: str, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Connect as a program of its own, with nothing of this one's but its address."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", JOIN, address],
        env={**clean, "HOME": "/nonexistent", **QUICK, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def opened_by_nobody(token: Path, sockets: Path) -> str:
    """What another account can do with the launch's files; '' for nothing."""
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        done = 0
        with contextlib.suppress(PermissionError):
            token.read_text()
            done |= 1
        for path in (sockets / "raylet", sockets / "plasma_store"):
            with contextlib.suppress(PermissionError), socket.socket(socket.AF_UNIX) as line:
                line.connect(str(path))
                done |= 2
        os._exit(done)
    done = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "", 1: "reads the token", 2: "reaches a socket"}.get(done, str(done))


def main() -> None:
    set_ray_environment()
    import ray

    with ray_cluster("local"):

        @ray.remote
        class Trial:
            def ready(self) -> bool:
                return True

        trial = Trial.remote()
        assert ray.get(trial.ready.remote())
        scratch = Path(os.environ["RAY_TMPDIR"])
        family = processes(scratch)
        print(*(process.pid for process in family))
        listening = [
            (process.name(), connection.laddr.ip)
            for process in (*family, psutil.Process())
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert {"gcs_server", "raylet"} <= {name for name, _ in listening}, listening
        for name, ip in listening:
            address = ipaddress.ip_address(ip)
            mapped = getattr(address, "ipv4_mapped", None) or address
            assert mapped.is_loopback, (name, ip)
        assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        for process in family:  # it is on nobody's command line
            assert token.read_text() not in " ".join(process.cmdline())
        address = ray.get_runtime_context().gcs_address
        for name, variables in ATTACKS.items():
            done = join(address, variables)
            said = (done.stderr.strip().splitlines() or [""])[-1]
            assert done.returncode != 0, name
            assert "joined" not in done.stdout, name
            assert address in said, said  # it came as far as Ray
        if os.geteuid() == 0:
            sockets = scratch / "ray" / "session_latest" / "sockets"
            assert (sockets / "raylet").is_socket()
            assert opened_by_nobody(token, sockets) == ""
        # It was the token that they lacked.
        mine = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        done = join(address, {**mine, "RAY_TMPDIR": str(scratch)})
        assert "joined" in done.stdout, done.stderr
    assert not scratch.exists()
    print("all checked")


if __name__ == "__main__":
    main()
