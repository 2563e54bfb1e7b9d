"""A process that falls silent, under the watchdog's limit of half a second."""

import subprocess
import sys
from pathlib import Path

_HANGING = """
import sys, time
from pathlib import Path
from trainables.training.watching.watchdog import Watchdog

def train():
    for seconds in map(float, sys.argv[2:]):
        with dog.watching():
            time.sleep(seconds)

dog = Watchdog(Path(sys.argv[1]), 0.5)
train()
print("got on")
dog.close()
"""


def hanging(directory: Path, *seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _HANGING, str(directory), *map(str, seconds)],
        capture_output=True,
        text=True,
        check=False,
    )
