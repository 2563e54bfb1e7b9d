"""A process that trains trials of a sweep, one after another: `python -m trainables.sweep.worker`.

It reads one JSON object per line from standard input, a trial to train, and writes events as JSON
lines to standard output; whatever else is printed goes to standard error. When its input ends, it
saves the trial at work at the next step and ends: nobody may be left to ask it.

Events: `ready`; `progress` and `report` with `fraction` and `metrics`; `ended` with `status`,
`reason` and `metrics`; `damaged` with `reason`, where what a trial has left cannot be read; `note`
with `text`; `refused` with `reason`, for what is no trial's fault.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

# Before torch loads, as in `trainables.__main__`.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from filelock import FileLock, Timeout

from trainables.errors import Failure, UserError, in_a_line, is_full_disk
from trainables.sweep.attempt import Attempt
from trainables.sweep.folder import TrialFolder
from trainables.sweep.share import Share
from trainables.terminal.answers import finite
from trainables.training.checkpoints.checkpoint import find_checkpoint
from trainables.user_code import bug

LOCK_SECONDS = 300.0  # a process of a killed command ends at its next step
_MIN_SECONDS = 0.5  # between two checkpoints at reports; what a kill may cost in no time
_MAX_SHARE = 0.05  # of a trial's time that goes into saving it
_BETWEEN_SECONDS = 60.0  # between two checkpoints where no report is due
_PROGRESS_SECONDS = 0.5

_NOT_METRICS = ("status", "reason", "notes", "done")


class Stopped(BaseException):
    """Ends a trial at a step, after it was saved; it is no error of the trial's."""


class Worker:
    """Trains what it is given until its input ends."""

    def __init__(self, events: IO[str], given: IO[str]) -> None:
        self._events = events
        self._given: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._stopping = threading.Event()
        threading.Thread(target=self._listen, args=(given,), daemon=True).start()

    def _listen(self, given: IO[str]) -> None:
        for line in given:
            self._given.put(json.loads(line))
        self._stopping.set()
        self._given.put(None)

    def _tell(self, event: str, **values: Any) -> None:
        try:
            self._events.write(json.dumps(finite({"event": event, **values})) + "\n")
            self._events.flush()
        except OSError:  # nobody listens any more; the input has ended too
            self._stopping.set()

    def run(self) -> int:
        """Train every trial that is given; return the exit status."""
        self._tell("ready")
        for trial in self._trials():
            try:
                self.train_trial(trial)
            except Stopped:
                return 0
            except Timeout:
                self._tell("refused", reason=f"another process trains in {trial['directory']!r}")
                return 1
            except OSError as error:
                full = "no space left on the disk" if is_full_disk(error) else in_a_line(error)
                self._tell("refused", reason=f"{full} ({error})" if is_full_disk(error) else full)
                return 1
            except UserError as error:
                self._tell("damaged", reason=str(error))
            except Failure as error:
                self._tell("refused", reason=str(error))
                return 1
            except Exception as error:
                full_disk = is_full_disk(error)
                said = f"no space left on the disk ({error})" if full_disk else bug(error)
                self._tell("refused", reason=said)
                raise
        return 0

    def _trials(self) -> Iterator[dict[str, Any]]:
        while (trial := self._given.get()) is not None and not self._stopping.is_set():
            yield trial

    def train_trial(self, trial: Mapping[str, Any]) -> None:
        """Train one trial to its end, from its checkpoint if it has one.

        Raises `Stopped` when the input has ended, and what is not the trial's fault.
        """
        folder = TrialFolder.of(trial["directory"])
        folder.directory.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.lock, timeout=LOCK_SECONDS, fallback_to_soft=False):
            known = folder.result()  # the process of a killed command may have come to the end
            if known is None:
                self._train(trial, folder)
                known = folder.result()
                assert known is not None
            metrics = {n: v for n, v in known["result"].items() if n not in _NOT_METRICS}
            self._tell("ended", metrics=metrics, status=known["result"]["status"],
                       reason=known["result"].get("reason", ""))  # fmt: skip

    def _train(self, trial: Mapping[str, Any], folder: TrialFolder) -> None:
        share = Share(cpus=trial["cpus"], gpus=trial["gpus"], remedy="lower --at-once")
        if share.gpus and not torch.cuda.is_available():
            raise Failure("the GPU went away: torch sees no CUDA device in the trial's process")
        rows = folder.reports()
        recorded = max((row["step"] for row in rows), default=-1)
        saved = time.monotonic()
        saving_seconds = told = 0.0

        def save() -> None:
            nonlocal saved, saving_seconds
            if attempt.run is not None:
                began = time.monotonic()
                attempt.run.save(folder.checkpoint)
                saved = time.monotonic()
                saving_seconds = saved - began

        def on_step(phase: str, done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if self._stopping.is_set():
                save()
                raise Stopped
            if now - saved > max(_BETWEEN_SECONDS, saving_seconds / _MAX_SHARE):
                save()
            if now - told > _PROGRESS_SECONDS:
                told = now
                if phase == "training":
                    self._tell("progress", fraction=done / total)

        attempt = Attempt(
            {**trial, "restore_from": _checkpoint(folder)},
            share=lambda: share,
            command=trial["command"],
            say=lambda text: self._tell("note", text=text),
            on_progress=on_step,
        )
        while True:
            result = attempt.next_result()
            step, fraction = int(result["training/step"]), float(result["training/fraction"])
            metrics = {n: v for n, v in result.items() if n not in _NOT_METRICS}
            if step > recorded and result["status"] != "failed":
                # A step that is known from before a restart is not recorded again.
                recorded = step
                rows.append({"step": step, "at": time.time(), "metrics": metrics})
                folder.write_reports(rows)
            self._tell("report", fraction=fraction, metrics=metrics)
            for note in result.get("notes", ()):
                self._tell("note", text=note)
            if result["done"]:
                break
            if time.monotonic() - saved >= max(_MIN_SECONDS, saving_seconds / _MAX_SHARE):
                save()
        attempt.close()
        named = {"number": trial["number"], "name": trial["name"], "device": trial["device"]}
        named["gpu"] = torch.cuda.get_device_name() if share.gpus else None
        folder.end({**named, "config": json.loads(trial["config"])}, result)


def _checkpoint(folder: TrialFolder) -> str | None:
    return str(folder.checkpoint) if find_checkpoint(folder.checkpoint) is not None else None


def main() -> int:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command hears it, and ends the input
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return Worker(events, sys.stdin).run()


if __name__ == "__main__":
    # Not `sys.exit`: what libraries do at the end must not keep a process that has nothing to lose.
    code = main()
    sys.stderr.flush()
    os._exit(code)
