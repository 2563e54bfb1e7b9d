"""What the process that projects a study's record does.

The driver says `finished` or `unfinished` where the study ends, or `discard` where it is given up.
It is told `opened`, then `alive` and `trouble`, and `closed`; a `problem` where it cannot begin.

When its driver has gone, it writes what is recorded, as long as MLflow answers, and ends all runs
as KILLED: nothing stays RUNNING because a driver was killed.
"""

import contextlib
import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from search.record.files.study_folder import StudyFiles
from search.record.storage import StudyRecord, is_broken_connection
from search.tracking.connection import open_client
from search.tracking.projection import Away, Projection
from trainables.addresses import first_line

_MIN_WAIT_SECONDS = 0.5  # gathers the reports of short trials into few calls
_MAX_WAIT_SECONDS = 5.0  # below, as long as the last pass took: half of a core at most
_RECORD_SECONDS = 60.0  # between two copies of the table, and two complaints
_NICENESS = 15  # as Ray's workers have: trials are not to wait for their own record
_ORPHAN_SECONDS = 20.0  # a projector without a driver ends by then, done or not


class ProjectorProcess:
    """Projects the record again and again, until the study ends or its driver has gone."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._woken = threading.Event()  # the study ends, or its driver has gone
        self._end = ""  # what the driver said of that
        self._last_said = 0.0
        self._projection: Projection | None = None
        self._changes = -1  # that were made when a pass failed last

    def main(self, uri: str, study_storage: str, files: StudyFiles) -> None:
        """Project a study; raise where MLflow cannot be used."""
        threading.Thread(target=self._listen, daemon=True).start()
        # Sent by `multiprocessing` where the driver ends without a word.
        signal.signal(signal.SIGTERM, self._hear_sigterm)
        with files.projecting():
            client, experiment = open_client(uri, files.artifacts)
            record = StudyRecord.load(study_storage, files.study)
            projection = Projection(client, experiment, files, record, on_answer=self._say_alive)
            self._projection = projection
            self._say(opened=projection.parent_run_id)
            os.nice(_NICENESS)
            self._follow(projection)

    def _follow(self, projection: Projection) -> None:
        sent = said = 0.0
        while True:
            began = time.monotonic()
            ending = self._woken.is_set()
            try:
                if self._end == "discard":
                    projection.discard()
                    return
                if ending:
                    projection.close(finished=self._end == "finished")
                    self._say(closed=projection.num_refused, problem=projection.problem)
                    return
                projection.update()
                if began - sent > _RECORD_SECONDS:
                    sent = began
                    projection.send_files()
            except Exception as error:
                if not isinstance(error, (Away, OSError)) and not is_broken_connection(error):
                    raise
                self._changes = projection.num_changes
                if began - said > _RECORD_SECONDS:
                    said = began
                    self._say(trouble=f"{first_line(error)}; will try again")
            seconds = max(_MIN_WAIT_SECONDS, time.monotonic() - began)
            if self._woken.wait(min(seconds, _MAX_WAIT_SECONDS)) and ending:
                time.sleep(_MIN_WAIT_SECONDS)  # MLflow is asked until the driver gives up

    def _listen(self) -> None:
        """Until the driver closes its end, or dies."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._end = self._line.recv()
                self._woken.set()
        self._hurry()

    def _hear_sigterm(self, *_: Any) -> None:
        threading.Thread(target=self._hurry, daemon=True).start()

    def _hurry(self) -> None:
        """End soon, done or not: there is no driver any more."""
        self._woken.set()
        time.sleep(_ORPHAN_SECONDS)
        os._exit(1)

    def _say_alive(self) -> None:
        """Give a sign of life now and then; none where MLflow answers and takes nothing."""
        now = time.monotonic()
        if self._projection is not None and self._projection.num_changes == self._changes:
            return
        if now - self._last_said >= 1.0:
            self._last_said = now
            self._say(alive=True)

    def _say(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the driver has gone
            self._line.send(message)
