"""A driver that confirms a study whose trials cost nothing; a program, so that it can be killed.

    python tests/integration/programs/cheap_confirm.py FOLDER TRIALS SECONDS_PER_REPORT NUM_SEEDS

The study is the one of `cheap_study.py`, none of whose trials is stopped. With 0 seeds it is run,
or resumed, instead.
"""

import json
import os
import sys

from search.execution.launch_options import Launch
from search.execution.study import run_study
from tests.integration.programs.cheap_study import CheapTrainable, plan_of
from trainables.terminal.command_line import run_command_line


def main(folder: str, trials: str, seconds: str, num_seeds: str) -> None:
    os.environ["CHEAP_SECONDS"] = seconds
    launch = Launch(
        storage=folder,
        trainable=CheapTrainable,
        check_data=False,
        report=False,
        concurrency=2,
        confirm=int(num_seeds) or None,
    )
    end = run_study(plan_of(int(trials), scheduler="none"), launch)
    print(json.dumps({"finished": end.finished, "front": end.front, "confirmed": end.confirmed}))


if __name__ == "__main__":
    run_command_line(lambda: main(*sys.argv[1:]))
