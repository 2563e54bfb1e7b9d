"""A driver of a study of cheap trials that ends at a plateau, and believes something before.

python tests/integration/programs/plateau_study.py FOLDER [MORE_TRIALS]
"""

import json
import sys

from search.execution.launch_options import Launch
from search.execution.study import run_study
from search.plans.limits.budget import Budget
from tests.integration.programs.cheap_study import CheapTrainable, plan_of
from trainables.terminal.command_line import run_command_line

TRIALS = 40


def main(folder: str, more: str = "") -> None:
    # A large share, so that the plateau is there as soon as it is looked for.
    plan = plan_of(
        TRIALS,
        plateau=0.9,
        sampler="curves",
        scheduler="none",
        prior=["optimiser.learning_rate=0.003"],
    )
    end = run_study(
        plan,
        Launch(
            storage=folder,
            trainable=CheapTrainable,
            check_data=False,
            report=False,
            quiet=True,
            concurrency=2,
            more=Budget(trials=int(more)) if more else None,
        ),
    )
    print(json.dumps({"finished": end.finished, "left": end.remaining, "plateau": end.plateau}))


if __name__ == "__main__":
    run_command_line(lambda: main(*sys.argv[1:]))
