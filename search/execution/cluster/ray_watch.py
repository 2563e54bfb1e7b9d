"""Watches over Ray while a launch needs it: notices that it is gone, and bounds every end.

Ray's driver waits for ever for a dead node, hears no signal while it waits in native code, and
aborts with a native stack when its cluster's controller was away for a minute. A driver may die at
any moment, the next one resumes: where Ray lets it not end in order, it is ended.
"""

import contextlib
import logging
import os
import select
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from search.execution.cluster.local_ray import end_processes, processes

Nodes = Sequence[Mapping[str, float]]

_NAMES = {"gcs_server": "Ray's controller", "raylet": "Ray's node"}
# In rounds of a second (two on a busy machine) of this process, which may sleep together with Ray.
STOPPED_ROUNDS = 20  # of a process that somebody stopped
SILENT_ROUNDS = 30  # of a cluster's controller; after a minute Ray aborts the driver
HEALING_ROUNDS = 300  # of a cluster without a node that could run a trial
ENDING_ROUNDS = 20  # from Ctrl-C, or a launch's end, until Ray has to be gone
_HEARD = (
    "Interrupted. Shutting down cleanly, which takes some seconds; press Ctrl-C again to leave at "
    "once."
)
_SOON = 10  # when a wait is worth a word

logger = logging.getLogger(__name__)


class RayWatch:
    """A context around all that a launch asks of Ray, from its start to its end.

    scratch: the folder of a local Ray, whose processes are ours to end; None for a cluster.
    resume: the command that resumes the study.
    problem: why the launch was told to end, in order; '' where it was not.
    """

    def __init__(self, scratch: Path | None, resume: str) -> None:
        self.problem = ""
        self._scratch = scratch
        self._to_resume = f"Resume by: {resume}"
        self._processes: set[psutil.Process] = set()
        self._vital: dict[psutil.Process, str] = {}
        self._nodes: Nodes = ()
        self._asking: threading.Thread | None = None
        self._unit = ""  # what a node must have to run a trial: GPUs, or CPUs where none has one
        self._rounds = {"stopped": 0, "silent": 0, "healing": 0}
        self._ends_in: int | None = None
        self._interrupted = False
        self._ending = threading.Event()
        self._signals, self._line = socket.socketpair()
        self._thread = threading.Thread(target=self._watch, name="ray-watch", daemon=True)

    def __enter__(self) -> Self:
        self._line.setblocking(False)
        self._before: int | None = None
        with contextlib.suppress(ValueError):  # not the main thread, which alone hears signals
            # Python writes to it at once, also while the main thread is in native code.
            self._before = signal.set_wakeup_fd(self._line.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.set_wakeup_fd(self._before)
        self._ending.set()
        self._line.close()
        self._thread.join()
        self._signals.close()
        if self._scratch is not None:
            end_processes(self._scratch, self._processes)

    def started(self, nodes: Callable[[], Nodes]) -> None:
        """Begin to watch a Ray that runs. nodes: asks for the resources of those alive."""
        if self._scratch is None:
            self._nodes = nodes()
            self._unit = next((u for u in ("GPU", "CPU") if any(n.get(u) for n in self._nodes)), "")
            asking = threading.Thread(target=self._ask, args=(nodes,), daemon=True)
            asking.start()
            self._asking = asking
            return
        names = {process: process.name() for process in processes(self._scratch)}
        self._vital = {process: _NAMES[name] for process, name in names.items() if name in _NAMES}

    def ending(self) -> None:
        """Note that Ray is being shut down, within a limit."""
        self._ending.set()
        self._ends_in = self._ends_in or ENDING_ROUNDS
        if self._asking is not None:
            self._asking.join(5.0)  # Ray may crash where it is asked while it shuts down

    def _watch(self) -> None:
        while True:
            if select.select([self._signals], [], [], 1.0)[0]:
                heard = self._signals.recv(64)
                if not heard:
                    return  # the end of the context
                if signal.SIGTERM in heard:
                    self._end(128 + signal.SIGTERM, f"Ended by SIGTERM. {self._to_resume}")
                if signal.SIGINT in heard:
                    if self._interrupted:
                        self._give_up()
                    self._interrupted, self._ends_in = True, ENDING_ROUNDS
                    if not self.problem:
                        _say(_HEARD)
                continue
            if self._ends_in is not None:
                self._ends_in -= 1
                if self._ending.is_set() and self._scratch and self._ends_in == ENDING_ROUNDS // 2:
                    end_processes(self._scratch, self._processes)  # Ray's shutdown may go on then
                if self._ends_in <= 0:
                    self._give_up()
            if not self._ending.is_set():
                self._look_at_processes()
                self._look_at_nodes()

    def _look_at_processes(self) -> None:
        if self._scratch is None:
            return
        self._processes |= processes(self._scratch)
        stopped = ""
        for process, name in self._vital.items():
            try:
                status = process.status()
            except psutil.Error:
                status = psutil.STATUS_DEAD
            if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                self._gone(f"{name} died (killed, perhaps, for want of memory)")
            if status == psutil.STATUS_STOPPED:
                stopped = name
        if self._waited("stopped", bool(stopped), STOPPED_ROUNDS, f"{stopped} was stopped"):
            self._gone(f"{stopped} was stopped, and did not continue")

    def _look_at_nodes(self) -> None:
        if self._asking is None:
            return
        said = "the cluster's controller does not answer"
        if self._waited("silent", True, SILENT_ROUNDS, said):
            self._gone(f"{said}; see to its head node")
        lacks = bool(self._unit) and not any(node.get(self._unit) for node in self._nodes)
        said = f"no node of the cluster that has {self._unit}s is alive"
        if self._waited("healing", lacks, HEALING_ROUNDS, said):
            self.problem = said
            self._ending.set()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _waited(self, what: str, wrong: bool, limit: int, said: str) -> bool:
        """Count the rounds in which something is wrong; say so once; return whether it is over."""
        self._rounds[what] = self._rounds[what] + 1 if wrong else 0
        if self._rounds[what] == _SOON:
            logger.warning("%s; waiting %d s for it, then the study ends", said, limit - _SOON)
        return self._rounds[what] > limit

    def _ask(self, nodes: Callable[[], Nodes]) -> None:
        while not self._ending.wait(2.0):
            with contextlib.suppress(Exception):
                self._nodes = nodes()
                self._rounds["silent"] = 0

    def _gone(self, said: str) -> None:
        if self._ending.is_set() or select.select([self._signals], [], [], 0)[0]:
            return  # it was told to go, or a signal is the reason
        self._end(1, f"failed: {said}; no report is lost. {self._to_resume}")

    def _give_up(self) -> None:
        """End what was told to end. The watch's own SIGINT has a problem, a user's has none."""
        if self._interrupted and not self.problem:
            self._end(128 + signal.SIGINT, f"Interrupted. {self._to_resume}")
        self._end(1, f"failed: {self.problem or 'Ray does not end'}. {self._to_resume}")

    def _end(self, code: int, message: str) -> None:
        """End this process, whatever its main thread is at."""
        _say(message, after="\x1b[?25h")  # shows the cursor
        if self._scratch is not None:
            end_processes(self._scratch, self._processes)
            shutil.rmtree(self._scratch, ignore_errors=True)
        os._exit(code)


def _say(message: str, after: str = "") -> None:
    """Write a line past whatever the main thread is at. after: for a terminal that shows bars."""
    clear = f"\r\x1b[K{after}" if os.isatty(1) else ""
    with contextlib.suppress(OSError):  # Ctrl-C ended who reads it, as in `2>&1 | tee log`
        os.write(2, f"{clear}{message}\n".encode())
