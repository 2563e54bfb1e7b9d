"""The driver's side of the projector: starts its process, hears its answers, and ends it.

The study never waits for MLflow: it writes its record, which the process projects. What could
not be written is said at the end, and written by the next launch or by `search sync`.
"""

import atexit
import contextlib
import logging
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from search.record.files.study_folder import StudyFiles, again
from trainables.addresses import first_line, refused, scrubbed

_PATIENCE = 10  # times as long is waited for a process that tells of no trouble

logger = logging.getLogger(__name__)


class Projector:
    """One study's projection, in a process of its own.

    parent_run_id: the study's run, once it is open.

    Nothing raises or waits for MLflow, `wait_open` and `close` aside.
    """

    def __init__(self, uri: str, study_storage: str, files: StudyFiles) -> None:
        self.parent_run_id = ""
        self._uri = uri
        self._remedy = f"`{again('sync', files.study, files.storage)}` writes what is missing"
        self._closed: tuple[int, str] | None = None  # how many writes were refused, and why
        self._problem = ""
        self._heard = time.monotonic()
        self._stopping = self._dead = False
        self._changed = threading.Condition()
        spawning = multiprocessing.get_context("spawn")
        self._line, theirs = spawning.Pipe()
        # Arguments go through a pipe: a command line, with its passwords, is everybody's to read.
        arguments = (theirs, uri, study_storage, files)
        self._process = spawning.Process(target=_project, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._hearing = threading.Thread(target=self._hear, name="tracking", daemon=True)
        self._hearing.start()

    def wait_open(self) -> None:
        """Wait until the study's runs are open, which takes MLflow seconds.

        Raises `UserError` where MLflow cannot be used.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.parent_run_id or self._dead)
        if not self.parent_run_id:
            raise refused("--tracking-uri", self._uri, ConnectionError(self._problem))

    def close(self, *, finished: bool, timeout_seconds: float = 30.0) -> str:
        """Have everything written and all runs ended; return what went wrong, or ''.

        finished: whether no trial is left. Runs of unfinished trials are ended as KILLED.
        Waits as long as MLflow answers, and at most `timeout_seconds` for an answer where there was
        trouble; a process that tells of none is at work, or waits for a busy processor, and has
        ten times as long. A projector whose runs were never open undoes what it did, and is not
        waited for. Ctrl-C ends either.
        """
        try:
            return self._close(finished=finished, timeout_seconds=timeout_seconds)
        except KeyboardInterrupt:
            self._stopping = True
            self._process.kill()  # Python would wait for it when it exits
            if self.parent_run_id and self._closed is None:
                logger.warning("tracking: interrupted; %s", self._remedy)
            raise

    def _close(self, *, finished: bool, timeout_seconds: float) -> str:
        with self._changed:
            if not self.parent_run_id:
                self._stopping = True
                self._tell("discard")
                atexit.register(self._end_discarded)  # before Python's own wait for it
                return ""
            self._heard = time.monotonic()
            self._tell("finished" if finished else "unfinished")
            said = False
            while self._closed is None and not self._dead:
                silent = time.monotonic() - self._heard
                if silent >= timeout_seconds * (1 if self._problem else _PATIENCE):
                    break
                if silent >= timeout_seconds and not said:
                    said = True
                    logger.warning("tracking: MLflow is slow; Ctrl-C ends this, %s", self._remedy)
                self._changed.wait(timeout_seconds / 10)
            self._stopping = True
            self._process.kill()  # all is written, and Python takes seconds to put MLflow away
        self._hearing.join()
        if self._closed is None:
            return f"MLflow lacks a part of the study ({self._problem or 'it does not answer'})"
        num_refused, problem = self._closed
        return f"MLflow refused {num_refused} writes ({problem})" if num_refused else ""

    def _end_discarded(self) -> None:
        """Wait until a study that was given up is undone; Ctrl-C ends that at once."""
        try:
            self._process.terminate()  # it has some seconds then
            self._process.join()
        except KeyboardInterrupt:
            self._process.kill()

    def _tell(self, word: str) -> None:
        with contextlib.suppress(OSError):  # it is dead: `_hear` finds out
            self._line.send(word)

    def _hear(self) -> None:
        """Take what the process says until it ends."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._take(self._line.recv())
        self._process.join()
        with self._changed:
            self._dead = True
            if self._process.exitcode and self.parent_run_id and not self._stopping:
                self._problem = self._problem or f"its process ended with {self._process.exitcode}"
                said = scrubbed(self._problem, self._uri)
                logger.warning("tracking: %s; %s", said, self._remedy)
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            self._problem = message.get("problem", self._problem)
            if "trouble" in message:
                self._problem = message["trouble"]
                logger.warning("tracking: %s", scrubbed(self._problem, self._uri))
                self._changed.notify_all()
                return
            self._heard = time.monotonic()
            if "alive" in message:
                self._problem = ""  # what was away is there again
            if not self._stopping:
                self.parent_run_id = message.get("opened", self.parent_run_id)
            if "closed" in message:
                self._closed = (message["closed"], message["problem"])
            self._changed.notify_all()


def _project(line: Connection, uri: str, study_storage: str, files: StudyFiles) -> None:
    """What the process does; MLflow's words of every run are for nobody."""
    os.setsid()  # Ctrl-C is the driver's to answer
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}
    try:
        from search.tracking.projector_process import ProjectorProcess  # loads MLflow

        ProjectorProcess(line).main(uri, study_storage, files)
    except Exception as error:
        with contextlib.suppress(OSError):
            line.send({"problem": first_line(error)})
        raise
