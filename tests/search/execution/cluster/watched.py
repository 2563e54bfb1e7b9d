"""A driver that waits for something that never comes, with processes that are named like Ray's.

    python tests/search/execution/cluster/watched.py KIND SCRATCH

KIND: `wait`; `deaf`, to which Ctrl-C means nothing, as to native code; `patient`, the same with the
whole patience of the watch; `shut`, whose shutdown never returns; `alone`, deaf and patient, of a
cluster whose only node goes, and without processes. The others' waits are seconds.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from search.execution.cluster import ray_watch

RESUME = "python -m search resume it"
SLEEP = "import time; time.sleep(600)"


def main(kind: str, folder: str) -> None:
    scratch = Path(folder)
    if kind in ("patient", "alone"):
        ray_watch.HEALING_ROUNDS = 1
    else:
        ray_watch.STOPPED_ROUNDS = ray_watch.ENDING_ROUNDS = 2
    if kind in ("deaf", "patient", "alone"):
        signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    if kind == "alone":
        with ray_watch.RayWatch(None, RESUME) as watch:
            nodes = [{"CPU": 1.0}]
            watch.started(lambda: list(nodes))
            nodes.clear()
            while not watch.problem:
                time.sleep(0.1)
            print("told to end", flush=True)
            threading.Event().wait()
    for name in ("gcs_server", "raylet"):
        program = scratch / name
        program.symlink_to(sys.executable)
        subprocess.Popen([program, "-c", SLEEP, f"{scratch}/logs"])
    with ray_watch.RayWatch(scratch, RESUME) as watch:
        while len(ray_watch.processes(scratch)) < 2:
            pass
        watch.started(list)
        print(*(process.pid for process in ray_watch.processes(scratch)), flush=True)
        if kind == "shut":
            watch.ending()
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
