"""What must hold of a study whose drivers were killed, beside what its records say together."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from search.plans.objective_values import final_density
from search.record.files.study_file import plan_of
from search.record.files.study_folder import read_json_lines, study_files
from search.schedulers.study_scheduler import make_scheduler
from tests.integration.records import (
    REPOSITORY,
    environment,
    front_of,
    mlflow_runs,
    recorded_trials,
)
from trainables.sweep.folder import trial_name

STUDY = "cheap"


def check_scheduler(folder: Path) -> dict[str, int]:
    """Whether every trial that was stopped had to be, and no other: a scheduler that hears all
    reports in the order they came decides so. Returns trials by status."""
    plan = plan_of(str(folder), STUDY)
    scheduler = make_scheduler(plan)
    assert scheduler is not None
    files, reports, last, statuses = study_files(str(folder), STUDY), [], {}, {}
    for trial in recorded_trials(folder, STUDY):
        name, given = trial_name(STUDY, trial.number), trial.user_attrs
        config = {
            "reference": given["reference"],
            "final_density": final_density(given["config"]),
        }
        rows = read_json_lines(files.reports(trial.number))
        reports += [(row["at"], name, config, row["step"], row["metrics"]) for row in rows]
        last[name], statuses[name] = rows[-1]["step"], given["status"]
    for _, name, config, step, metrics in sorted(reports, key=lambda report: report[:2]):
        kept = scheduler.keeps(name, config, metrics)
        stopped = statuses[name] == "stopped" and step == last[name]
        assert kept is not stopped, f"{name} at step {step}: kept {kept}, stopped {stopped}"
    return dict(Counter(statuses.values()))


def check_same_trials(folder: Path, undisturbed: Path) -> int:
    """The same configurations and seeds under the same numbers; of those that are complete in
    both, the same metrics, wall time aside. Returns how many are."""
    both = 0
    ours, theirs = (recorded_trials(f, STUDY) for f in (folder, undisturbed))
    assert [t.number for t in ours] == [t.number for t in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        name = trial_name(STUDY, mine.number)
        assert mine.params == other.params, name
        for key in ("params", "seed", "config", "reference"):
            assert mine.user_attrs[key] == other.user_attrs[key], (name, key)
        if mine.user_attrs["status"] == other.user_attrs["status"] == "complete":
            both += 1
            assert without_time(mine) == without_time(other), name
            assert mine.values == other.values, name
    assert both
    return both


def without_time(trial: Any) -> dict[str, float]:
    measured = ("training/gpu_hours", "training/seconds")
    return {k: v for k, v in trial.user_attrs["metrics"].items() if k not in measured}


def check_front(folder: Path) -> int:
    """`front.parquet`, as analysis writes it, is MLflow's front. Returns its size."""
    command = [sys.executable, "-m", "analysis", "front", STUDY, "--storage", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    front = pq.read_table(folder / STUDY / "front.parquet").column("trial").to_pylist()
    assert set(front) == front_of(mlflow_runs(folder, STUDY)[2])
    return len(front)


def check_processes(folder: Path) -> None:
    """Nothing that was started for the study is left."""
    left = [p.info for p in psutil.process_iter(["pid", "cmdline"]) if _names(p, str(folder))]
    assert not left, left


def _names(process: psutil.Process, text: str) -> bool:
    return process.pid != psutil.Process().pid and any(
        text in part for part in process.info["cmdline"] or ()
    )
