"""The driver's side of the projector: starts its process, hears its answers, and ends it.

The study never waits for MLflow: it writes its record, which the process projects. What could
not be written is said at the end, and written by the next launch or by `search sync`.
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
from pathlib import Path
from typing import Any

from search.record.addresses import refused, scrubbed
from search.record.study_folder import StudyFiles
from trainables.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]  # where `search` is imported from
_MAX_PROCESSES = 4  # of which three replace one that died
_REPLACE_SECONDS = 5.0
_END_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Projector:
    """One study's projection, in a process of its own.

    parent_run_id: the study's run, once it is open.

    Nothing raises or waits for MLflow, `wait_open` and `close` aside.
    """

    def __init__(self, uri: str, study_storage: str, files: StudyFiles) -> None:
        self.parent_run_id = ""
        self._uri = uri
        self._study_storage = study_storage
        self._files = files
        self._closed: tuple[int, str] | None = None
        self._problem = ""
        self._heard = time.monotonic()
        self._changed = threading.Condition()
        self._ending = ""  # what the process was told of the study's end
        self._stopping = self._dead = False
        self._num_processes = 0
        self._hearing: threading.Thread | None = None
        self._start_process()

    def wait_open(self) -> None:
        """Wait until the study's runs are open, which takes MLflow seconds.

        Raises `UserError` where MLflow cannot be used; the projector is closed then.
        """
        if self._hearing is not None:
            return
        try:
            self.parent_run_id = str(self._await_opening()["opened"])
        except BaseException:
            self._give_up()
            raise
        self._hearing = threading.Thread(target=self._hear, name="tracking", daemon=True)
        self._hearing.start()

    @property
    def process_id(self) -> int:
        """The id of the process that projects."""
        return self._process.pid

    def close(self, *, finished: bool, timeout_seconds: float = 30.0) -> str:
        """Have everything written and all runs ended; return what went wrong, or ''.

        finished: whether no trial is left. Runs of unfinished trials are ended as KILLED;
        resuming the study opens them again.
        Waits as long as MLflow answers, and at most `timeout_seconds` for an answer.
        """
        if self._hearing is None:  # never open: there is nothing to write, and nobody to wait for
            self._give_up()
            return ""
        self._ending = "finished" if finished else "unfinished"
        self._heard = time.monotonic()
        self._tell(self._ending)
        with self._changed:
            while self._closed is None and not self._dead:
                left = self._heard + timeout_seconds - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        self._stopping = True
        self._end_process()
        self._hearing.join()
        self._release_process()
        num_refused, problem = self._closed or (0, "")
        if self._closed is None:
            return f"MLflow lacks a part of the study ({self._problem or 'it does not answer'})"
        return f"MLflow refused {num_refused} writes ({problem})" if num_refused else ""

    # ------------------------------------------------------------------ the process

    def _give_up(self) -> None:
        """Let go of a process that has not opened the runs: it undoes what it did, and ends."""
        self._dead = True
        self._tell("discard")
        self._release_process()

    def _start_process(self) -> None:
        """In a session of its own: Ctrl-C is the driver's to answer."""
        self._num_processes += 1
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "search.tracking.projector_process"],
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
        # Through the pipe: a command line, with its passwords, is everybody's to read.
        wishes = {
            "uri": self._uri,
            "study_storage": self._study_storage,
            "storage": str(self._files.storage),
            "study": self._files.study,
        }
        self._tell(json.dumps(wishes))

    def _await_opening(self) -> dict[str, Any]:
        """Raises `UserError` where the process cannot open the study's runs."""
        error: Exception | None = None
        for line in self._process.stdout or ():
            message = json.loads(line)
            if "opened" in message:
                return dict(message)
            if "refused" in message:
                error = ConnectionError(message["refused"])
                break
        error = error or RuntimeError(self._last_words())
        self._end_process()
        self._release_process()
        raise refused("--tracking-uri", self._uri, error)

    def _hear(self) -> None:
        """What the processes say, until the last one has ended."""
        while True:
            for line in self._process.stdout or ():
                with self._changed:
                    self._take(json.loads(line))
                    self._changed.notify_all()
            if self._stopping or self._closed is not None or not self._replace_process():
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
        if "closed" in message:
            self._closed = (message["closed"], message["problem"])

    def _replace_process(self) -> bool:
        """Start another process in place of one that died: it finds what is written."""
        self._problem = self._last_words()
        said = scrubbed(self._problem, self._uri)
        logger.warning("tracking: %s; another process takes its place", said)
        while self._num_processes < _MAX_PROCESSES and not self._stopping:
            try:
                self._end_process()
                self._release_process()
                self._start_process()
                self._await_opening()
            except (UserError, OSError) as error:
                self._problem = str(error)
                time.sleep(_REPLACE_SECONDS)
                continue
            if self._ending:
                self._tell(self._ending)
            return True
        return False

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is dead: `_hear` finds out
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _end_process(self) -> None:
        """Nothing of it is left, whether it ended by itself or hangs."""
        if self._closed is None:
            self._process.kill()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _release_process(self) -> None:
        """Close what tied us to it; nobody may be reading."""
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _last_words(self) -> str:
        """The last line of a dead process's complaint, or how it ended."""
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"the process that writes to MLflow ended with {code}"
