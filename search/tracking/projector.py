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
from pathlib import Path
from typing import Any

from search.record.study_folder import StudyFiles
from trainables.addresses import refused, scrubbed

_ROOT = Path(__file__).resolve().parents[2]  # where `search` is imported from

logger = logging.getLogger(__name__)


class Projector:
    """One study's projection, in a process of its own.

    parent_run_id: the study's run, once it is open.

    Nothing raises or waits for MLflow, `wait_open` and `close` aside.
    """

    def __init__(self, uri: str, study_storage: str, files: StudyFiles) -> None:
        self.parent_run_id = ""
        self._uri = uri
        self._closed: tuple[int, str] | None = None  # how many writes were refused, and why
        self._problem = ""
        self._heard = time.monotonic()
        self._stopping = self._dead = False
        self._changed = threading.Condition()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "search.tracking.projector_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is the driver's to answer
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(p for p in paths if p),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_LOGGING_LEVEL": "ERROR",
            },
        )
        wishes = {
            "uri": uri,
            "study_storage": study_storage,
            "storage": str(files.storage),
            "study": files.study,
        }
        # Through the pipe: a command line, with its passwords, is everybody's to read.
        self._tell(json.dumps(wishes))
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

        finished: whether no trial is left. Runs of unfinished trials are ended as KILLED;
        resuming the study opens them again.
        Waits as long as MLflow answers, and at most `timeout_seconds` for an answer. A projector
        whose runs were never open undoes what it did, and is not waited for.
        """
        with self._changed:
            if not self.parent_run_id:
                self._stopping = True
                self._tell("discard")
                return ""
            self._heard = time.monotonic()
            self._tell("finished" if finished else "unfinished")
            while self._closed is None and not self._dead:
                left = self._heard + timeout_seconds - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._stopping = True
            if self._closed is None:
                self._process.kill()
        self._hearing.join()
        if self._closed is None:
            return f"MLflow lacks a part of the study ({self._problem or 'it does not answer'})"
        num_refused, problem = self._closed
        return f"MLflow refused {num_refused} writes ({problem})" if num_refused else ""

    def _tell(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is dead: `_hear` finds out
            assert self._process.stdin is not None
            self._process.stdin.write(line.encode() + b"\n")

    def _hear(self) -> None:
        """Take what the process says until it ends."""
        with self._process, self._errors:
            for line in self._process.stdout or ():
                self._take(json.loads(line))
            code = self._process.wait()
            self._errors.seek(0)
            complaint = self._errors.read().decode(errors="replace").strip()
        with self._changed:
            self._dead = True
            if code and not self._stopping:
                last = complaint.splitlines()[-1:] or [f"its process ended with {code}"]
                self._problem = last[0]
                said = scrubbed(self._problem, self._uri)
                logger.warning("tracking: %s; `search sync` writes what is missing", said)
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "trouble" in message:
                self._problem = message["trouble"]
                logger.warning("tracking: %s", scrubbed(self._problem, self._uri))
                return
            self._heard = time.monotonic()
            self._problem = message.get("refused", self._problem)
            if not self._stopping:
                self.parent_run_id = message.get("opened", self.parent_run_id)
            if "closed" in message:
                self._closed = (message["closed"], message["problem"])
            self._changed.notify_all()
