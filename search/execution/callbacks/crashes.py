"""What ended a trial's process, in words, and who is to blame: the trial, its node or the disk.

A process that died, or an exception out of a trainable, gets one more try from the last
checkpoint: a neighbour may have taken the memory. A lost node is not counted, nor is a lost
connection, which is how the driver learns of a lost node before Ray does. A process that hung is
not tried again, and a full disk ends the launch: no trial has to fail for it.
"""

import errno
import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from trainables.errors import is_full_disk
from trainables.training.watching.watchdog import silence_of

logger = logging.getLogger(__name__)

MAX_FAILURES = 1  # for Tune: of one trial in one launch, lost nodes aside

_COLOURS = re.compile(r"\x1b\[\d*m")
_MAX_CHARACTERS = 600
# As Ray 2.60 words it.
_NODE_LOST = ("its node has died", "the actor's node was ")
_CONNECTION_LOST = "The actor is temporarily unavailable"
MAX_LOST_CONNECTIONS = 8  # of one trial in one launch; a process may die in a way that looks alike
_LOW_MEMORY = ("running low on memory", "OUT_OF_MEMORY")


class Crashes(Callback):
    """Keeps Ray's trials, to say why one crashed; Tune itself reports no result of it."""

    def __init__(self) -> None:
        self._trials: dict[str, Trial] = {}
        self._num_lost_connections: Counter[str] = Counter()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Remember a trial."""
        self._trials[trial.trial_id] = trial

    def on_trial_recover(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Take a lost node out of Tune's count of failures. Raises `OSError` for a full disk."""
        self._trials[trial.trial_id] = trial  # it may have died before it started
        text = _last_failure(trial)
        if self._is_node_loss(trial, text):
            trial.run_metadata.num_failures -= 1
        logger.info("%s is tried again: %s", trial, text)

    def error_of(self, trial_id: str) -> str | None:
        """Return why a trial failed for good; '' where nothing is known, None for a lost node.

        Tune gives a trial up whose process was still starting then (ray 2.60 hears of that death
        twice). Raises `OSError` for a full disk: the trial is not to be recorded as failed.
        """
        trial = self._trials.get(trial_id)
        if trial is None:
            return ""
        text = _last_failure(trial)
        if self._is_node_loss(trial, text):
            return None
        return silence_of(Path(str(trial.config["directory"]))) or _words(text)

    def _is_node_loss(self, trial: Trial, text: str) -> bool:
        if _CONNECTION_LOST in text:
            self._num_lost_connections[trial.trial_id] += 1
            return self._num_lost_connections[trial.trial_id] <= MAX_LOST_CONNECTIONS
        return any(words in text for words in _NODE_LOST)

    def __reduce__(self) -> Any:
        # Tune pickles its configuration to disk for `Tuner.restore`; a stand-in suffices.
        return (Callback, ())


def _last_failure(trial: Trial) -> str:
    """Return what Ray wrote of a trial's last failure; raise `OSError` for a full disk."""
    try:
        text = Path(trial.error_file or "").read_text(errors="replace")
    except OSError:
        return ""
    # Every failure of the trial begins with such a line.
    text = _COLOURS.sub("", text.rpartition("Failure # ")[2].partition("\n")[2]).strip()
    if is_full_disk(text):
        directory = str(trial.config["directory"])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), directory)
    return text


def _words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    if lines[0].startswith("ray::"):  # a traceback, whose last line says what was raised
        return f"the trial raised {lines[-1]}"
    if any(words in text for words in _LOW_MEMORY):
        begin = "out of memory: the trial's process was killed for the machine's sake"
    else:
        begin = "the trial's process died, killed (out of memory, perhaps) or by a crash of its own"
    return f"{begin}; Ray says: {' '.join(lines)[:_MAX_CHARACTERS]}"
