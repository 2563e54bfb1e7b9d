"""The studies behind the claims: run as `search baselines`, one process each, and resumable."""

import datetime
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.report.versions import versions
from analysis.studies.trials import Study, load_study
from benchmarks.claims.elsewhere import export_grid, facts_of_sweep
from benchmarks.claims.facts import PACKAGES, commit, data_facts, machine
from benchmarks.claims.jobs import Job, Options, read_record
from benchmarks.claims.protocol import (
    FIRST_SEED,
    SPARSITIES,
    TUNING_SEED,
    TUNING_SPARSITY,
    Setting,
    num_trials,
)
from benchmarks.claims.tuning import NUM_VARIANTS, Budget, VariantResult, choose, judge
from trainables.errors import Failure
from trainables.terminal.answers import write_json

Runner = Callable[[Sequence[str]], int]  # a command line → its exit status


def run_setting(job: Job, options: Options, run: Runner, say: Callable[[str], None]) -> bool:
    """Tune, choose, and run the final study; whatever is finished is left as it is.

    Returns False where a study waits for a sweep on another host. Raises `Failure` where a study
    does not finish: the same command goes on.
    """
    setting = job.setting
    record = read_record(job.storage, setting) or {"setting": setting.name, "studies": {}}
    record["asked"] = job.asked()
    if "facts" not in record:
        record["facts"] = data_facts(job)
    if "budgets" not in record:  # kept: presets may change, what was trained does not
        record["budgets"] = {s: budget.to_json() for s, budget in job.budgets().items()}
    write_json(job.record_path, record)
    named = {
        system: [variant["settings"] for variant in budget["variants"]]
        for system, budget in record["budgets"].items()
    }
    command = job.command(
        setting.tuning_study,
        seed=TUNING_SEED,
        seeds=1,
        systems=job.systems,
        sparsities=(TUNING_SPARSITY,),
        settings=job.settings_path("variants"),
        overrides=setting.tuning_overrides,
    )
    write_json(job.settings_path("variants"), named)
    expected = NUM_VARIANTS * len(job.systems)
    if not _run_study(job, record, setting.tuning_study, command, expected, options, run, say):
        return False
    tuning = load_study(setting.tuning_study, job.storage)
    chosen = chosen_settings(job, record, results(record, setting, tuning))
    systems = list(chosen)
    for system in sorted(set(record["budgets"]) - set(systems)):
        say(f"{setting.name}: every variant of {system} failed; it is left out of the final study")
    if not systems:
        raise Failure(f"no trial of {setting.tuning_study} is complete; see its trials.parquet")
    write_json(job.settings_path("chosen"), chosen)
    command = job.command(
        setting.final_study,
        seed=FIRST_SEED,
        seeds=job.seeds,
        systems=systems,
        sparsities=SPARSITIES,
        settings=job.settings_path("chosen"),
    )
    expected = num_trials(systems, num_sparsities=len(SPARSITIES), num_seeds=job.seeds)
    return _run_study(job, record, setting.final_study, command, expected, options, run, say)


def results(
    record: Mapping[str, Any], setting: Setting, tuning: Study
) -> dict[str, tuple[VariantResult, ...]]:
    """What every variant of every system did, by system."""
    return {
        system: judge(system, setting.tasks, tuning.trials, Budget.from_json(budget))
        for system, budget in record["budgets"].items()
    }


def chosen_settings(
    job: Job, record: Mapping[str, Any], found: Mapping[str, Sequence[VariantResult]]
) -> dict[str, dict[str, Any]]:
    """By system, without those of which no variant ended. What a final study was begun with
    stands, whatever rule chose it."""
    path = job.settings_path("chosen")
    if job.setting.final_study in record["studies"] and path.is_file():
        return dict(json.loads(path.read_text()))
    best = {system: choose(variants) for system, variants in found.items()}
    return {s: dict(r.variant.settings) for s, r in best.items() if r is not None}


def num_finished(path: Path) -> int:
    """Trials with a status in a study's `trials.parquet`; 0 where there is none to read."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def _run_study(
    job: Job,
    record: dict[str, Any],
    study: str,
    command: list[str],
    expected: int,
    options: Options,
    run: Runner,
    say: Callable[[str], None],
) -> bool:
    entry = record["studies"].setdefault(study, {"launches": []})
    entry |= {"command": command, "expected": expected}
    if num_finished(job.trials_path(study)) >= expected:
        say(f"{study}: finished, {expected} trials")
        write_json(job.record_path, record)
        return True
    line = [sys.executable, *command[1:]]
    launch: dict[str, Any] = {"started": _now()}
    if options.export_grids is not None or options.import_from is not None:
        swept = None if options.import_from is None else options.import_from / study
        if swept is None or not (swept / "sweep.json").is_file():
            export_grid(study, line, swept, options, run, say)
            write_json(job.record_path, record)
            return False
        line = [sys.executable, "-m", "search", "import", str(swept), "--name", study]
        line += ["--storage", str(job.storage)]
        say(f"{study}: {expected} trials from {swept}")
        launch |= facts_of_sweep(swept)
    else:
        if options.concurrency is not None:
            line += ["--concurrency", str(options.concurrency)]
        say(f"{study}: {expected} trials\n  {shlex.join(command)}")
        launch |= {"machine": machine(), "versions": versions(PACKAGES), "commit": commit()}
    if options.quiet:
        line.append("--quiet")
    entry["launches"].append(launch)
    write_json(job.record_path, record)
    started = time.monotonic()
    code = None
    try:
        code = run(line)
    finally:
        launch.setdefault("seconds", round(time.monotonic() - started, 1))
        launch["exit_status"] = code
        write_json(job.record_path, record)
    finished = num_finished(job.trials_path(study))
    if finished < expected:
        raise Failure(
            f"{study} ended with exit status {code} and {finished} of {expected} trials; the same "
            "command goes on"
        )
    if code:
        say(f"{study}: all trials are finished, but the command ended with exit status {code}")
    return True


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
