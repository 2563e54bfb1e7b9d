"""A driver of a grid of baselines whose trials cost nothing; a program, so that it can be killed.

    python tests/integration/programs/cheap_baselines.py FOLDER NUM_SEEDS SECONDS_PER_REPORT

The settings of one of the methods are refused by it: those trials fail, the others go on.
"""

import json
import os
import sys
from dataclasses import replace

from search.execution.launch_options import Launch
from search.execution.study import run_study
from search.plans.baselines import make_baselines_plan
from search.plans.plan import Plan
from search.plans.recipe import get_recipe
from tests.integration.programs.cheap_study import CheapTrainable
from trainables.terminal.command_line import run_command_line


def plan_of(num_seeds: int) -> Plan:
    plan = make_baselines_plan(
        get_recipe("demo"),
        study="cheap",
        methods=("snip", "lth", "dense"),
        sparsities=(0.5, 0.9),
        seeds=num_seeds,
    )
    assert plan.grid is not None
    snip, lth, dense = plan.grid.systems
    refused = replace(lth, settings={"sparsity.schedule": "one-shot"})
    return replace(plan, grid=replace(plan.grid, systems=(snip, refused, dense)))


def main(folder: str, num_seeds: str, seconds: str) -> None:
    os.environ["CHEAP_SECONDS"] = seconds
    launch = Launch(
        storage=folder,
        trainable=CheapTrainable,
        check_data=False,
        report=False,
        quiet=True,
        concurrency=2,
    )
    end = run_study(plan_of(int(num_seeds)), launch)
    print(json.dumps({"finished": end.finished, "failed": end.failed, "left": end.remaining}))


if __name__ == "__main__":
    run_command_line(lambda: main(*sys.argv[1:]))
