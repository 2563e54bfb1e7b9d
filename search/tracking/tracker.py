"""MLflow: a parent run per study, a child per trial, written by a process of its own.

The study's loop never waits for the server: it appends events to a file, the spool, which
`search.tracking.writer` follows. What could not be written is said at the end; it is in the
study's own record, from which the next launch, or `search sync`, writes it.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from search.record.addresses import refused, scrubbed
from search.record.study_folder import StudyFiles
from search.tracking.events import Ended, Point, Started, StudyFacts, close_line, to_line
from trainables.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]  # where `search` is imported from
_MAX_WRITERS = 4  # of which three replace one that died
_REPLACE_SECONDS = 5.0
_END_SECONDS = 5.0

logger = logging.getLogger(__name__)


def connect(uri: str, facts: StudyFacts, files: StudyFiles) -> "Tracker":
    """A tracker whose runs are open. Raises `UserError` where the server does not play along."""
    tracker = Tracker(uri, facts, files)
    tracker.wait_open()
    return tracker


class Tracker:
    """Hands one study's events to its writer. Nothing raises or waits for the server, `wait_open`
    and `close` aside.

    parent_run_id: the study's run, once it is open.
    ended: trials whose runs were complete when this driver began, once that is known.
    """

    def __init__(self, uri: str, facts: StudyFacts, files: StudyFiles) -> None:
        self._uri = uri
        self._facts = facts
        self._files = files
        self._spool: IO[bytes] | None = None
        self._size = 0  # of the spool
        self._done = 0  # as far as it is written
        self._closed: tuple[int, str] | None = None
        self._problem = ""
        self._lost = 0  # events that the disk did not take
        self._heard = time.monotonic()
        self._changed = threading.Condition()
        self._hurrying = self._stopping = self._dead = False
        self._num_writers = 0
        # Emptied before the writer follows it: one that a killed driver left is not this one's.
        with contextlib.suppress(OSError):  # said at `close`: nothing here stops a study
            self._spool = files.spool.open("wb", buffering=0)
        self.parent_run_id = ""
        self.ended: set[str] = set()
        self._hearing: threading.Thread | None = None
        self._telling = threading.RLock()
        try:
            self._start_writer()
        except BaseException:
            self._remove_spool()
            raise

    def wait_open(self) -> None:
        """Until the study's runs are open, which takes MLflow seconds. Raises `UserError` where
        the server does not play along; the tracker is closed then.

        Only the server's first answer has a time limit: reading a long study's runs may take as
        long as it takes.
        """
        if self._hearing is not None:
            return
        try:
            opened = self._await_opening()
        except BaseException:
            self._give_up()
            raise
        self.parent_run_id = str(opened["opened"])
        self.ended = set(opened["ended"])
        self._hearing = threading.Thread(target=self._hear, name="tracking", daemon=True)
        self._hearing.start()

    @property
    def writer_process(self) -> int:
        """Its process id."""
        return self._writer.pid

    def trial_started(
        self, name: str, *, method: str, params: Mapping[str, Any], started: float
    ) -> None:
        """Open the trial's run, or reopen it after a restart."""
        self._put(to_line(name, Started(method=method, params=dict(params), at=started)))

    def report(self, name: str, *, step: int, metrics: Mapping[str, float], at: float) -> None:
        """One batch of points; skipped where the run has points at `step`."""
        self._put(to_line(name, Point.of({"step": step, "metrics": metrics, "at": at})))

    def trial_ended(self, name: str, *, status: str, reason: str, at: float) -> None:
        self._put(to_line(name, Ended(status=status, reason=reason, at=at)))

    def tag_front(self, members: Mapping[str, bool]) -> None:
        """Mark every finished trial as on the joint front or not."""
        for name, member in members.items():
            self._put(to_line(name, member))

    def close(self, *, finished: bool, timeout_seconds: float = 30.0) -> str:
        """Have everything written and all runs ended; returns what could not be, or ''.

        Waits as long as the server answers, and at most `timeout_seconds` for an answer.
        Children still open (their trials are unfinished) are ended KILLED; resuming the study
        opens them again.
        """
        if self._hearing is None:  # never open: there is nothing to write, and nobody to wait for
            self._give_up()
            return ""
        self._put(close_line(finished))
        self._heard = time.monotonic()
        self.hurry()
        with self._changed:
            while self._closed is None and not self._dead:
                left = self._heard + timeout_seconds - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        self._stopping = True
        self._end_writer()
        self._hearing.join()
        self._release_writer()
        return self._unwritten()

    def hurry(self) -> None:
        """The study is about to end: write without pauses."""
        self._hurrying = True
        self._tell("hurry")

    def _put(self, line: str) -> None:
        """One line of the spool, whole or not at all."""
        data = line.encode() + b"\n"
        try:
            if self._spool is None:
                raise OSError("there is no spool")
            if self._spool.write(data) != len(data):
                raise OSError("no space left on the disk")
            self._size += len(data)
        except OSError as error:
            self._lost += 1
            self._problem = str(error)
            if self._spool is not None:
                with contextlib.suppress(OSError):
                    self._spool.truncate(self._size)
                    self._spool.seek(self._size)

    def _unwritten(self) -> str:
        """Counts what is in the spool alone, and removes it: the study's record has it all."""
        if self._closed is not None:
            missing, problem = self._closed
        else:
            missing, problem = 0, self._problem or "the server is slow"
            with contextlib.suppress(OSError), self._files.spool.open("rb") as file:
                file.seek(self._done)
                missing = max(1, sum(1 for _ in file) - 1)  # without that of closing
        missing += self._lost
        self._remove_spool()
        problem = problem or self._problem
        return f"{missing} writes to MLflow were not made ({problem})" if missing else ""

    def _remove_spool(self) -> None:
        if self._spool is not None:
            self._spool.close()
        with contextlib.suppress(OSError):
            self._files.spool.unlink()

    # ------------------------------------------------------------------ the writer

    def _give_up(self) -> None:
        """Let go of a writer that has not opened the runs: it takes back what it made, and goes."""
        self._dead = True
        self._tell("discard")
        self._remove_spool()
        self._release_writer()

    def _start_writer(self) -> None:
        """A session of its own: Ctrl-C is the driver's to answer."""
        self._num_writers += 1
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the writer lives
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        # By the pipe: a command line, with its passwords, is everybody's to read.
        wishes = {
            "uri": self._uri,
            "artifacts": str(self._files.artifacts),
            "facts": asdict(self._facts),
            "spool": str(self._files.spool),
            "offset": self._done,
            "lock": str(self._files.tracking_lock),
        }
        with self._telling:  # nobody is to be first
            self._writer = subprocess.Popen(
                [sys.executable, "-m", "search.tracking.writer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(p for p in paths if p),
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_LOGGING_LEVEL": "ERROR",
                },
            )
            self._tell(json.dumps(wishes))

    def _await_opening(self) -> dict[str, Any]:
        """Raises `UserError` where the writer cannot open the study's runs."""
        for line in self._writer.stdout or ():
            message = json.loads(line)
            if "opened" in message:
                return dict(message)
            if "refused" in message:
                error: Exception = ConnectionError(message["refused"])
                break
        else:
            error = RuntimeError(self._last_words())
        self._end_writer()
        self._release_writer()
        raise refused("--tracking-uri", self._uri, error)

    def _hear(self) -> None:
        """What the writers say, until the last one has ended."""
        while True:
            for line in self._writer.stdout or ():
                message = json.loads(line)
                with self._changed:
                    self._take(message)
                    self._changed.notify_all()
            if self._stopping or self._closed is not None or not self._replace_writer():
                break
        with self._changed:
            self._dead = True
            self._changed.notify_all()

    def _take(self, message: Mapping[str, Any]) -> None:
        if "trouble" in message:
            self._problem = message["trouble"]
            logger.warning("tracking: %s", scrubbed(self._problem, self._uri))
            return
        self._heard = time.monotonic()
        self._done = message.get("done", self._done)
        if "closed" in message:
            self._closed = (message["closed"], message["problem"])

    def _replace_writer(self) -> bool:
        """Another one goes on where the dead one was; what it wrote already it finds written."""
        self._problem = self._last_words()
        said = scrubbed(self._problem, self._uri)
        logger.warning("tracking: %s; another one goes on where it was", said)
        while self._num_writers < _MAX_WRITERS and not self._stopping:
            try:
                self._end_writer()
                self._release_writer()
                self._start_writer()
                self._await_opening()
            except (UserError, OSError) as error:
                self._problem = str(error)
                time.sleep(_REPLACE_SECONDS)
                continue
            if self._hurrying:
                self.hurry()
            return True
        return False

    def _tell(self, line: str) -> None:
        # It is dead: `_hear` finds out.
        with self._telling, contextlib.suppress(OSError, ValueError):
            assert self._writer.stdin is not None
            self._writer.stdin.write(line.encode() + b"\n")
            self._writer.stdin.flush()

    def _end_writer(self) -> None:
        """Nothing of it is left, whether it ended by itself or hangs."""
        if self._closed is None:
            self._writer.kill()
        try:
            self._writer.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._writer.kill()
            self._writer.wait()

    def _release_writer(self) -> None:
        """Close what tied us to it; nobody may be reading."""
        for pipe in (self._writer.stdin, self._writer.stdout, self._errors):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _last_words(self) -> str:
        """Of a writer that died: the last line of its complaint, or how it ended."""
        code = self._writer.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace")
        # Python adds some of its own where its standard input is being read at the end.
        lines = said.partition("Fatal Python error: _enter_buffered_busy")[0].strip().splitlines()
        return lines[-1] if lines else f"the process that writes to MLflow ended with {code}"
