"""A Ray cluster with token authentication: a head, workers, and a laptop that submits jobs."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.hosts import Host, Network, wait_for

_ASK_SECONDS = 1.5  # between questions to the head: each starts a process
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
JOBS = "http://head:8265"
HEAD, LAPTOP = "head", "laptop"
WORKERS = ("worker-1", "worker-2")
TOKEN = {"RAY_AUTH_MODE": "token"}
_NODE = {
    # Three nodes see one machine's memory, which is not theirs to guard.
    "RAY_memory_monitor_refresh_ms": "0",
    # Nor are they the first that a machine short of memory should kill.
    "RAY_worker_oom_score_adjustment": "0",
    # A lost node is noticed within seconds; with Ray's own values it takes a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
# A node has the packages of the environment, but not this repository's: a job brings them.
_NOT_ON_NODES = ("search", "trainables", "spaces", "analysis", "tests", "benchmarks")

# Ray's own command line takes seconds to start; this asks the same interface.
_ASK = """
import pathlib, sys, urllib.request
token = pathlib.Path("/tmp/home/.ray/auth_token").read_text().strip()
request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer {token}"})
print(urllib.request.urlopen(request, timeout=20).read().decode())
"""


class RayNodes:
    """Three nodes: a head and two workers of one CPU each. `laptop` is none of them."""

    def __init__(self, network: Network, repository: Path) -> None:
        self._network = network
        self._hidden = [repository / name for name in _NOT_ON_NODES]
        self.repository = repository
        self.head = network.add(HEAD, hidden=self._hidden)
        made = self.head.run(["ray", "get-auth-token", "--generate"])
        assert made.returncode == 0, made.stderr
        (self.head.home / ".ray" / "auth_token").chmod(0o600)  # as the README says
        self.workers = {name: network.add(name, hidden=self._hidden) for name in WORKERS}
        self.laptop = network.add(LAPTOP)
        for host in (*self.workers.values(), self.laptop):
            self._give_token(host)
        place = ["--head", "--port", "6379", "--dashboard-host", "0.0.0.0"]
        self._start(self.head, place)

    def wait(self) -> None:
        """Until the head answers and every worker has joined."""
        wait_for("the head answers", lambda: self._ask("/api/version"), 90, self._said)
        for host in self.workers.values():
            self._start(host, ["--address", f"{HEAD}:6379"])
        self.wait_for_nodes(1 + len(self.workers))

    def wait_for_nodes(self, count: int) -> None:
        wait_for(f"{count} nodes", lambda: len(self.nodes()) == count, 90, self._said)

    def nodes(self) -> list[str]:
        """The host names of the nodes that Ray believes alive."""
        listed = self._ask("/api/v0/nodes?limit=100") or {}
        rows = listed.get("data", {}).get("result", {}).get("result", [])
        return [row["node_name"] for row in rows if row["state"] == "ALIVE"]

    def cut(self, name: str) -> None:
        """A worker is lost, without a word."""
        self._network.cut(self.workers.pop(name))

    def replace(self, name: str) -> None:
        """A new host takes a lost one's place."""
        self.workers[name] = self._network.add(name, hidden=self._hidden)
        self._give_token(self.workers[name])
        self._start(self.workers[name], ["--address", f"{HEAD}:6379"])

    def submit(self, command: Sequence[str]) -> "Submission":
        """Run `ray job submit …` on the laptop, in the repository."""
        return Submission(self, command)

    def job(self, identity: str) -> dict[str, Any]:
        return dict(self._ask(f"/api/jobs/{identity}") or {})

    def job_log(self, identity: str) -> str:
        return str((self._ask(f"/api/jobs/{identity}/logs") or {}).get("logs", ""))

    def _start(self, host: Host, place: Sequence[str]) -> None:
        command = ["ray", "start", *place, "--node-ip-address", host.address, "--node-name"]
        command += [host.name, "--num-cpus", "1", "--object-store-memory", "80000000", "--block"]
        host.start(command, log="ray.log", environment=TOKEN | _NODE)

    def _give_token(self, host: Host) -> None:
        (host.home / ".ray").mkdir()
        shutil.copy(self.head.home / ".ray" / "auth_token", host.home / ".ray" / "auth_token")

    def _ask(self, path: str) -> Any:
        """The head's JSON; None where it does not answer."""
        done = self.laptop.run(["python", "-c", _ASK, JOBS + path])
        return json.loads(done.stdout) if done.returncode == 0 else None

    def _said(self) -> str:
        hosts = (self.head, *self.workers.values())
        return "\n".join(f"{host.name}: {host.log('ray.log')[-2000:]}" for host in hosts)


class Submission:
    """A `ray job submit` at work on the laptop, and the job it made."""

    _count = 0

    def __init__(self, nodes: RayNodes, command: Sequence[str]) -> None:
        Submission._count += 1
        self._nodes = nodes
        self._log = f"submit-{Submission._count}.log"
        self.client: subprocess.Popen[Any] = nodes.laptop.start(
            command, log=self._log, environment=TOKEN, directory=str(nodes.repository)
        )

    @property
    def said(self) -> str:
        """What the client printed, without colours; the job's output is in it."""
        return re.sub(r"\x1b\[\d*m", "", self._nodes.laptop.log(self._log))

    @property
    def identity(self) -> str:
        """The job's; waits until the cluster has taken it."""

        def found() -> str | None:
            match = re.search(r"Job '(\w+)' submitted successfully", self.said)
            return match[1] if match else None

        return str(wait_for("the job is taken", found, 60, lambda: self.said))

    @property
    def status(self) -> str:
        """As the cluster knows it, whatever became of the client."""
        return str(self._nodes.job(self.identity).get("status"))

    def end(self, timeout_seconds: float) -> str:
        """SUCCEEDED or FAILED."""

        def ended() -> str | None:
            status = self.status
            return status if status in _ENDED else None

        return str(
            wait_for("the job ends", ended, timeout_seconds, lambda: self.log, every=_ASK_SECONDS)
        )

    def wait_for(self, what: str, holds: Callable[[], Any], timeout_seconds: float) -> Any:
        """The first true answer of `holds` while the job is at work."""

        asked = time.monotonic()

        def answer() -> Any:
            nonlocal asked
            if found := holds():
                return found
            if time.monotonic() - asked > _ASK_SECONDS:
                asked = time.monotonic()
                status = self.status
                # Once more: it may have come about before the job's end.
                found = holds()
                assert found or status not in _ENDED, f"{what}: the job {status} first\n{self.log}"
            return found

        return wait_for(what, answer, timeout_seconds, lambda: self.log)

    @property
    def log(self) -> str:
        return self._nodes.job_log(self.identity)
