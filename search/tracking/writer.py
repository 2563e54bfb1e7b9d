"""The process that writes a study's tracking to MLflow: `python -m search.tracking.writer`.

A process, not a thread, so that it takes no turn of the study's loop. It reads events from the
spool, a file that only grows, and remembers how far it is: the study never waits for a server,
and what is not yet written takes disk, not memory. The driver speaks on standard input: first
one line of JSON, then `hurry`, or `discard` where the study is given up. On standard output lines
of JSON answer: `opened` or `refused`, then `done` (bytes of the spool that are written),
`trouble`, and `closed`.

When its driver has gone (the input ends), it writes what is there, as long as the server
answers, and ends all runs as KILLED: nothing stays RUNNING because a driver was killed.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO

from search.record.addresses import first_line
from search.record.driver_lock import sole_writer
from search.tracking.connection import open_client
from search.tracking.events import StudyFacts, gather
from search.tracking.projector import StudyRuns
from search.tracking.retries import GaveUp

_MIN_WAIT_SECONDS = 0.25  # gathers the events of short trials into few calls
_MAX_WAIT_SECONDS = 5.0
_HURRIED_SECONDS = 0.02
_WAIT_SHARE = 0.25  # as many times as long as the last writes took: most of a core at most
_NICENESS = 15  # as Ray's workers have: trials are not to wait for their own record
_CHUNK_BYTES = 1 << 20
_ORPHAN_SECONDS = 20.0  # a writer without a driver ends by then, done or not


class Writer:
    """Follows the spool until it says that the study closes, or the driver has gone."""

    def __init__(self) -> None:
        self._alone = threading.Event()  # the driver has gone
        self._hurry = threading.Event()
        self._discard = False  # the study was given up before its runs were open
        self._last_said = 0.0

    def main(self, commands: BinaryIO) -> None:
        wishes = json.loads(commands.readline())
        threading.Thread(target=self._listen, args=(commands,), daemon=True).start()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(sole_writer(Path(wishes["lock"])))
                client, experiment = open_client(wishes["uri"], Path(wishes["artifacts"]))
                runs = StudyRuns(
                    client,
                    experiment,
                    StudyFacts(**wishes["facts"]),
                    on_progress=self._progressed,
                    on_trouble=lambda text: _say(trouble=text),
                    give_up=self._alone,
                )
                runs.begin()
            except Exception as error:
                _say(refused=first_line(error))
                return
            _say(opened=runs.parent_run_id, ended=sorted(runs.ended))
            os.nice(_NICENESS)
            with contextlib.suppress(GaveUp):
                self._follow(runs, Path(wishes["spool"]), int(wishes["offset"]))
                if self._discard:
                    runs.discard()

    def _follow(self, runs: StudyRuns, spool: Path, offset: int) -> None:
        while True:
            began = time.monotonic()
            lines, end = _read(spool, offset)
            trials, finished = gather(lines)
            runs.write_all(trials)
            if finished is not None:
                runs.end_all(finished=finished)
                _say(closed=runs.calls.num_refused, problem=runs.calls.problem)
                return
            if end > offset:
                offset = end
                _say(done=offset)
            elif self._alone.is_set():
                runs.end_all(finished=False)
                return
            if not self._alone.is_set():
                spent = time.monotonic() - began
                seconds = min(max(_MIN_WAIT_SECONDS, _WAIT_SHARE * spent), _MAX_WAIT_SECONDS)
                if self._hurry.wait(seconds):
                    time.sleep(_HURRIED_SECONDS)

    def _listen(self, commands: BinaryIO) -> None:
        """Until the driver closes its end, or dies."""
        for line in commands:
            self._discard |= line.strip() == b"discard"
            self._hurry.set()  # for good: a driver in a hurry is about to close
        self._alone.set()
        self._hurry.set()
        time.sleep(_ORPHAN_SECONDS)
        os._exit(1)

    def _progressed(self) -> None:
        """A sign of life, now and then."""
        now = time.monotonic()
        if now - self._last_said >= 1.0:
            self._last_said = now
            _say(alive=True)


def _read(spool: Path, offset: int) -> tuple[list[str], int]:
    """Whole lines from `offset` on, a bounded number of them, and where they end."""
    try:
        with spool.open("rb") as file:
            file.seek(offset)
            data = file.read(_CHUNK_BYTES)
            if len(data) == _CHUNK_BYTES and b"\n" not in data:
                data += file.readline()  # one very long line
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return data[:end].decode().splitlines(), offset + end


def _say(**message: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # the driver has gone
        _answers.write(json.dumps(message) + "\n")
        _answers.flush()


if __name__ == "__main__":
    # MLflow prints where a run can be seen: nothing but answers may get to the driver.
    _answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which closes then
    code = 0
    try:
        Writer().main(sys.stdin.buffer)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    # Not by the interpreter's own way: a thread still reads the input, and Python aborts over
    # that, with a complaint in which the true one is lost.
    sys.stderr.flush()
    _answers.flush()
    os._exit(code)
