"""The processes of a sweep: one for every trial at once, each used for trial after trial."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainables.errors import Failure
from trainables.sweep.folder import SweepFolder

STOP_SECONDS = 20.0  # for a step and a checkpoint, before processes are killed
_POLL_SECONDS = 0.2
_MAX_LOG_BYTES = 4000
_GONE = "gone"  # the event of a process that has ended


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Describes where one trial at a time runs. gpu: as CUDA_VISIBLE_DEVICES names it, or None."""

    slot: int
    cpus: int
    gpus: float
    gpu: str | None


def make_places(at_once: int, num_cpus: int, gpus: Sequence[str]) -> tuple[Place, ...]:
    """Return equal places for `at_once` trials; gpus: none for a sweep on the CPU.

    GPUs are dealt out in turn. Where several trials share one, each may take an equal part of its
    memory, in hundredths.
    """
    together = -(-at_once // len(gpus)) if gpus else 1  # trials on the fullest GPU
    share = 1.0 if together == 1 else max(1, 100 // together) / 100
    return tuple(
        Place(
            slot=slot,
            cpus=max(1, num_cpus // at_once),
            gpus=share if gpus else 0.0,
            gpu=gpus[slot % len(gpus)] if gpus else None,
        )
        for slot in range(at_once)
    )


class _Process:
    """One process, the trial that it trains, and the thread that listens to it."""

    def __init__(self, place: Place, log: Path, events: "queue.Queue[Event]") -> None:
        self.place = place
        self.number: int | None = None
        self.ready = False
        self._log = log
        visible = {} if place.gpu is None else {"CUDA_VISIBLE_DEVICES": place.gpu}
        with log.open("ab") as printed:
            self._log_start = printed.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainables.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                env={**os.environ, **visible},
                start_new_session=True,  # Ctrl-C is the command's to hear
            )
        assert self.process.stdout is not None
        arguments = (self.process.stdout, events)
        threading.Thread(target=self._listen, args=arguments, daemon=True).start()

    def _listen(self, told: IO[bytes], events: "queue.Queue[Event]") -> None:
        for line in told:
            with contextlib.suppress(ValueError):  # cut short by the end of the process
                events.put((self.place.slot, self, json.loads(line)))
        self.process.wait()
        events.put((self.place.slot, self, {"event": _GONE}))

    def give(self, trial: Mapping[str, Any]) -> None:
        self.number = int(trial["number"])
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # it has died, which is heard soon
            self.process.stdin.write(json.dumps(trial).encode() + b"\n")
            self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def death(self) -> str:
        """Return how it ended and the last line that it printed."""
        code = self.process.wait()
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        with self._log.open("rb") as printed:
            size = printed.seek(0, os.SEEK_END)
            printed.seek(max(self._log_start, size - _MAX_LOG_BYTES))
            lines = printed.read().decode(errors="replace").strip().splitlines()
        return f"{how}{f'; it printed last: {lines[-1].strip()}' if lines else ''}"


Event = tuple[int, _Process, dict[str, Any]]


class Crew:
    """Holds the processes of a sweep; leaving the context ends them all.

    A context that ends well, or by an interruption, lets every trial at work save itself first.
    """

    def __init__(self, folder: SweepFolder, places: Sequence[Place]) -> None:
        self._folder = folder
        self._places = places
        self._processes: dict[int, _Process] = {}
        self._events: queue.Queue[Event] = queue.Queue()

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def idle(self) -> list[Place]:
        """Return the places that train nothing."""
        busy = {slot for slot, p in self._processes.items() if p.number is not None}
        return [place for place in self._places if place.slot not in busy]

    def at_work(self) -> list[int]:
        """Return the numbers of the trials at work."""
        return [p.number for p in self._processes.values() if p.number is not None]

    def give(self, place: Place, trial: Mapping[str, Any]) -> None:
        """Have a trial trained in an idle place; `trial` lacks only the share of the machine."""
        if place.slot not in self._processes:
            log = self._folder.log(place.slot)
            self._processes[place.slot] = _Process(place, log, self._events)
        share = {"cpus": place.cpus, "gpus": place.gpus}
        self._processes[place.slot].give({**trial, **share})

    def next_event(self) -> tuple[int | None, dict[str, Any]]:
        """Wait for what happens next: the trial's number, and the event of its process.

        The event `died`, with a `reason`, says that a process ended with a trial at work. Raises
        `Failure` where a process cannot start, or says that what happened is no trial's fault.
        """
        while True:
            try:
                # A wait without an end would not hear signals on every system.
                slot, process, event = self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            number = process.number
            if event["event"] == "ready":
                process.ready = True
            elif event["event"] == "refused":
                raise Failure(str(event["reason"]))
            elif event["event"] in ("ended", "damaged"):
                process.number = None
                if event.get("status") == "failed":  # it may have left the process in a bad state
                    process.end_input()
                    self._processes.pop(slot, None)
                return number, event
            elif event["event"] == _GONE:
                if self._processes.get(slot) is process:
                    del self._processes[slot]
                if number is None:
                    continue
                if not process.ready and process.process.returncode > 0:
                    raise Failure(f"a process for trials cannot start: {process.death()}")
                return number, {"event": "died", "reason": process.death()}
            else:
                return number, event

    def stop(self) -> None:
        """End all processes, those that do not save themselves in time by killing them."""
        processes, self._processes = list(self._processes.values()), {}
        try:
            for process in processes:
                process.end_input()
            deadline = time.monotonic() + STOP_SECONDS
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        finally:  # a second Ctrl-C
            for process in processes:
                process.process.kill()
                process.process.wait()
