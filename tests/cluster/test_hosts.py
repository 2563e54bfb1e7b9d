"""The hosts of these tests are apart from one another, and gone with their maker."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.hosts import Host, Network, problem, wait_for

pytestmark = pytest.mark.cluster

_SERVE = "import socket; s = socket.create_server(('', 9000)); s.accept()[0].send(b'{}')"
_ASK = "import socket; print(socket.create_connection(('b', 9000), 2).recv(9).decode())"
_MAKE_AND_WAIT = """
import pathlib, sys
from tests.cluster.hosts import Network
with Network(pathlib.Path(sys.argv[1]), []) as network:
    network.name("a")
    print(network.add("a").process, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _hosts_can_be_made() -> None:
    if problem():
        pytest.skip(problem())


@pytest.fixture
def networks(tmp_path: Path) -> Iterator[list[tuple[Network, Host, Host]]]:
    """Two at once, of the same addresses and names."""
    with ExitStack() as stack:
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            network = stack.enter_context(Network(tmp_path / name, [tmp_path]))
            network.name("a", "b")
            made.append((network, network.add("a"), network.add("b")))
        yield made


def test_hosts_reach_those_of_their_network_alone(
    networks: list[tuple[Network, Host, Host]], tmp_path: Path
) -> None:
    for number, (_, a, b) in enumerate(networks):
        b.start([sys.executable, "-c", _SERVE.format(number)], log="serve.log")
        assert a.run(["hostname"]).stdout == "a\n"
        # A folder of all hosts, and one of each.
        a.run(["sh", "-c", f"echo {number} > /tmp/own; echo {number} >> {tmp_path}/common"])
        assert b.run(["cat", "/tmp/own"]).returncode != 0
    for number, (_, a, _) in enumerate(networks):

        def answer(a: Host = a) -> str:
            return a.run([sys.executable, "-c", _ASK]).stdout.strip()

        assert wait_for("an answer", answer, 20) == str(number)
    assert (tmp_path / "common").read_text() == "0\n1\n"


def test_a_lost_host_takes_its_processes_along_and_can_be_replaced(
    networks: list[tuple[Network, Host, Host]],
) -> None:
    network, a, b = networks[0]
    process = b.start(["sleep", "1000"], log="sleep.log")
    network.cut(b)
    assert process.poll() is not None
    assert not b.is_up
    assert a.run([sys.executable, "-c", _ASK]).returncode != 0
    b = network.add("b")
    assert "sleep" not in b.processes()
    b.start([sys.executable, "-c", _SERVE.format("new")], log="serve.log")
    wait_for("an answer", lambda: a.run([sys.executable, "-c", _ASK]).stdout == "new\n", 20)


def test_a_killed_run_leaves_no_host(tmp_path: Path, repository: Path) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", _MAKE_AND_WAIT, str(tmp_path)],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert maker.stdout is not None
    host = Path("/proc") / maker.stdout.readline().strip()
    assert (host / "exe").exists()
    maker.send_signal(signal.SIGKILL)
    maker.communicate()
    # A process that has ended has no program any more, even where nobody has buried it yet.
    wait_for("the host's end", lambda: not (host / "exe").exists(), 10)
