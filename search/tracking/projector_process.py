"""The process that projects a study's record: `python -m search.tracking.projector_process`.

A process, not a thread, so that it takes no turn of the study's loop. The driver speaks on
standard input: first one line of JSON that says what to project, then `finished` or `unfinished`
where the study ends, or `discard` where it is given up. Lines of JSON on standard output answer:
`opened` or `refused`, then `alive` and `trouble`, and `closed`.

When its driver has gone (the input ends), it writes what is recorded, as long as MLflow answers,
and ends all runs as KILLED: nothing stays RUNNING because a driver was killed.
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

from search.record.storage import StudyRecord, is_broken_connection
from search.record.study_folder import StudyFiles
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

    def __init__(self) -> None:
        self._woken = threading.Event()  # the study ends, or its driver has gone
        self._end = ""  # what the driver said of that
        self._last_said = 0.0
        self._projection: Projection | None = None
        self._changes = -1  # that were made when a pass failed last

    def main(self, commands: BinaryIO) -> None:
        """Project what the first line of `commands` names."""
        wishes = json.loads(commands.readline())
        threading.Thread(target=self._listen, args=(commands,), daemon=True).start()
        files = StudyFiles(storage=Path(wishes["storage"]), study=wishes["study"])
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.projecting())
                client, experiment = open_client(wishes["uri"], files.artifacts)
                record = StudyRecord.load(wishes["study_storage"], wishes["study"])
                projection = Projection(
                    client, experiment, files, record, on_answer=self._say_alive
                )
            except Exception as error:
                say(refused=first_line(error))
                return
            self._projection = projection
            say(opened=projection.parent_run_id)
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
                    say(closed=projection.num_refused, problem=projection.problem)
                    return
                projection.update()
                if began - sent > _RECORD_SECONDS:
                    sent = began
                    projection.send_record()
            except Exception as error:
                if not isinstance(error, (Away, OSError)) and not is_broken_connection(error):
                    raise
                self._changes = projection.num_changes
                if began - said > _RECORD_SECONDS:
                    said = began
                    say(trouble=f"{first_line(error)}; will try again")
            seconds = max(_MIN_WAIT_SECONDS, time.monotonic() - began)
            if self._woken.wait(min(seconds, _MAX_WAIT_SECONDS)) and ending:
                time.sleep(_MIN_WAIT_SECONDS)  # MLflow is asked until the driver gives up

    def _listen(self, commands: BinaryIO) -> None:
        """Until the driver closes its end, or dies."""
        for line in commands:
            self._end = line.decode().strip()
            self._woken.set()
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
            say(alive=True)


def say(**message: Any) -> None:
    """Write one answer to the driver."""
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
        ProjectorProcess().main(sys.stdin.buffer)
    except BaseException:
        traceback.print_exc()
        code = 1
    # Not by the interpreter's own way: a thread still reads the input, and Python aborts over
    # that, with a complaint in which the true one is lost.
    sys.stderr.flush()
    os._exit(code)
