"""Hosts on one Linux machine: each its own network, processes, host name, /tmp and shared memory.

A host is a set of Linux namespaces that lives as long as its first process. Ray, PostgreSQL and
MLflow run in them unchanged, and see one another only through a bridge, by name and address. A
folder that all hosts see at one path stands for the network file system of a cluster.

Nothing needs cleaning after a crash: the first process of every host is killed by the kernel
with the process that made it, everything in the host with it, and bridge and cables with the
last of them. Two networks with the same addresses do not meet, since neither is visible from
outside.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_SUBNET = "10.77.0"
_BRIDGE = "bridge0"
_PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "mount", "hostname", "ps")
_NAMESPACES = ("--net", "--mount", "--uts", "--ipc", "--pid")
# Of this machine's environment, what a host's programs get; proxies do not lead out of there.
_INHERITED = ("LANG", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

# The host's first process: it adopts and buries the orphans, as init does.
_INIT = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""


def problem() -> str:
    """Why hosts cannot be made here, or ''."""
    if sys.platform != "linux":
        return "hosts are Linux namespaces, and this is not Linux"
    if os.geteuid() != 0:
        return "hosts are Linux namespaces, which need root"
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"hosts need {', '.join(missing)}: install iproute2, util-linux and procps"
    tried = subprocess.run(
        ["unshare", *_NAMESPACES, "--fork", "--mount-proc", "ip", "link", "add", "type", "bridge"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"namespaces are refused here: {tried.stderr.strip()}" if tried.returncode else ""


class Host:
    """One host of a `Network`; `folder` is its /tmp, seen from outside."""

    def __init__(self, name: str, number: int, folder: Path) -> None:
        self.name = name
        self.address = f"{_SUBNET}.{number}"
        self.folder = folder
        self._started: list[subprocess.Popen[Any]] = []
        self._holder: subprocess.Popen[str] | None = None

    @property
    def is_up(self) -> bool:
        return self._holder is not None and self._holder.poll() is None

    @property
    def home(self) -> Path:
        """Of root on this host, seen from outside; from inside it is /tmp/home."""
        return self.folder / "home"

    def path(self, inside: str) -> Path:
        """What the host knows as `inside`, below its /tmp."""
        return self.folder / Path(inside).relative_to("/tmp")

    def boot(self, script: str) -> None:
        """Start the host's first process, after `script` has prepared its namespaces."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o1777)
        # --pdeathsig: the kernel kills `unshare` with us, and --kill-child the host with it.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", *_NAMESPACES]
        command += ["--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
        command += [f'{script}\nexec "$@"', "sh", sys.executable, "-c", _INIT]
        with (self.folder / "boot.log").open("w") as errors:
            self._holder = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        assert said == "up\n", f"the host {self.name} did not come up: {self.log('boot.log')}"

    @property
    def process(self) -> int:
        """The first process, by its number outside."""
        assert self._holder is not None
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        return int(children.read_text().split()[0])

    def enter(self, *namespaces: str) -> list[str]:
        """The words before a command that is to run on this host."""
        return ["nsenter", "--target", str(self.process), *(namespaces or _NAMESPACES)]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            # The programs of this test's own environment, as a cluster's image would have them.
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/tmp/home",
            "OMP_NUM_THREADS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            **(extra or {}),
        }

    def start(
        self,
        command: Sequence[str],
        *,
        log: str,
        environment: Mapping[str, str] | None = None,
        directory: str = "/tmp",
    ) -> subprocess.Popen[Any]:
        """Run in the background, output to `log` in the host's /tmp."""
        with (self.folder / log).open("ab") as output:
            process = subprocess.Popen(
                [*self.enter(), f"--wd={directory}", "--", *command],
                env=self.environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: str = "/tmp",
        timeout_seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.enter(), f"--wd={directory}", "--", *command],
            env=self.environment(environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_seconds,
        )

    def processes(self) -> str:
        """What runs on this host, a line each."""
        return self.run(["ps", "-e", "-o", "args="]).stdout

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.is_file() else ""

    def stop(self) -> None:
        """The power goes: everything on the host is killed at once."""
        if self._holder is None:
            return
        with contextlib.suppress(OSError, IndexError):
            os.kill(self.process, signal.SIGKILL)
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()
        for process in self._started:
            stop_group(process)
        self._started.clear()
        self._holder = None


class Network:
    """A context of hosts on one bridge.

    folder: where hosts keep their /tmp, each in a folder of its own.
    seen: folders that every host sees, at their own paths; others below /tmp it does not, this
      interpreter's aside.
    """

    def __init__(self, folder: Path, seen: Iterable[Path]) -> None:
        self._folder = folder
        interpreter = (Path(sys.prefix), Path(sys.base_prefix))
        self._seen = [path for path in (*seen, *interpreter) if path.is_relative_to("/tmp")]
        self._hosts: dict[str, Host] = {}
        self._numbers: dict[str, int] = {}
        self._names = folder / "hosts"
        self._switch = Host("switch", 1, folder / "switch")

    def __enter__(self) -> Self:
        self._switch.boot(
            f"ip link add {_BRIDGE} type bridge forward_delay 0\n"
            f"ip link set {_BRIDGE} up\nip link set lo up"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in [*self._hosts.values(), self._switch]:
            host.stop()

    def name(self, *names: str) -> None:
        """Give hosts their addresses beforehand: every host knows every name from its start."""
        for name in names:
            self._numbers[name] = 10 + len(self._numbers)
        lines = ["127.0.0.1 localhost"]
        lines += [f"{_SUBNET}.{number} {name}" for name, number in self._numbers.items()]
        self._names.write_text("\n".join(lines) + "\n")

    def add(self, name: str, *, hidden: Iterable[Path] = ()) -> Host:
        """Start a host, with an empty /tmp, under a name from `name`.

        hidden: folders of this machine that the host does not have.
        """
        host = Host(name, self._numbers[name], self._folder / name)
        shutil.rmtree(host.folder, ignore_errors=True)
        host.folder.mkdir(parents=True)
        host.boot(self._preparation(host, hidden))
        self._hosts[name] = host
        self._plug_in(host)
        return host

    def cut(self, host: Host) -> None:
        """The cable goes, then the power: no process and no kernel says good-bye."""
        self._on_switch("link", "delete", _cable(host))
        host.stop()

    def _preparation(self, host: Host, hidden: Iterable[Path]) -> str:
        lines = [
            f"hostname {host.name}",
            "ip link set lo up",
            "mount -t tmpfs tmpfs /dev/shm",
            f"mount --bind '{self._names}' /etc/hosts",
            f"mkdir '{host.folder}/outside'",
            f"mount --rbind /tmp '{host.folder}/outside'",
            f"mount --rbind '{host.folder}' /tmp",
        ]
        for path in self._seen:
            lines.append(f"mkdir -p '{path}'")
            lines.append(f"mount --bind '/tmp/outside/{path.relative_to('/tmp')}' '{path}'")
        lines += [f"mount -t tmpfs tmpfs '{path}'" for path in hidden]
        return "\n".join([*lines, "umount --lazy /tmp/outside"])

    def _plug_in(self, host: Host) -> None:
        cable = _cable(host)
        self._on_switch(
            "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(host.process)
        )
        self._on_switch("link", "set", cable, "master", _BRIDGE, "up")
        inside = host.enter("--net")
        _check([*inside, "ip", "address", "add", f"{host.address}/24", "dev", "eth0"])
        _check([*inside, "ip", "link", "set", "eth0", "up"])

    def _on_switch(self, *arguments: str) -> None:
        _check([*self._switch.enter("--net"), "ip", *arguments])


def _cable(host: Host) -> str:
    return f"to-{host.name}"[:15]  # the kernel's limit of a name


def _check(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def stop_group(process: subprocess.Popen[Any]) -> None:
    """SIGKILL for what `Host.start` started, and for all that it started in turn."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(
    what: str,
    holds: Callable[[], Any],
    seconds: float,
    details: Callable[[], str] = str,
    *,
    every: float = 0.2,
) -> Any:
    """The first true answer of `holds`; fails after `seconds`, with `details`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = holds()
        if answer:
            return answer
        time.sleep(every)
    raise AssertionError(f"{what}: not within {seconds:.0f} s\n{details()}")
