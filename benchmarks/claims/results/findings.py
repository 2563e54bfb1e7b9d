"""docs/claims.json: everything that the document, the figure and the README's table show.

Plain JSON, rebuilt from the studies at any time; a number that does not exist is null.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from analysis.statistics.comparing.comparison import Comparison, smallest_p
from analysis.statistics.comparing.deltas import paired_deltas
from analysis.studies.masks import read_masks
from analysis.studies.trials import Study, Trial, load_study
from benchmarks.claims.jobs import Job, Options, read_record, settle
from benchmarks.claims.lengths import trial_lengths
from benchmarks.claims.protocol import (
    INTERVAL_LEVEL,
    LOSSLESS_MARGIN_PERCENT,
    PAIR_CLAIMS,
    SETTINGS,
    SPARSITIES,
    TUNING_SEED,
    TUNING_SPARSITY,
    WATERSHED_CLAIMS,
    Setting,
)
from benchmarks.claims.results.verdicts import (
    PairResult,
    WatershedResult,
    is_of,
    judge_pairs,
    judge_watersheds,
    scores_of,
)
from benchmarks.claims.studies import chosen_settings, num_finished, results
from benchmarks.claims.tuning import NUM_VARIANTS, choose
from spaces.presets import DENSE_METHODS
from trainables.report import PRIMARY_METRICS
from trainables.terminal.command_line import parse_settings

_VERSION = 1
_ARBITER = "unanimous"  # the presets'


def collect(storage: Path) -> dict[str, Any]:
    """All settings of the protocol as they stand under `storage`."""
    return {
        "version": _VERSION,
        "interval_level": INTERVAL_LEVEL,
        "lossless_margin_percent": LOSSLESS_MARGIN_PERCENT,
        "tuning": {
            "variants": NUM_VARIANTS,
            "seed": TUNING_SEED,
            "sparsity": TUNING_SPARSITY,
        },
        "settings": [_setting(setting, storage) for setting in SETTINGS.values()],
    }


def _setting(setting: Setting, storage: Path) -> dict[str, Any]:
    record = read_record(storage, setting)
    found: dict[str, Any] = {
        "name": setting.name,
        "title": setting.title,
        "dataset": setting.dataset,
        "preset": setting.preset,
        "tasks": list(setting.tasks),
        "asked": record.get("asked"),
        "facts": record.get("facts"),
        "tuning": None,
        "final": None,
        "reports": None,
        "variants": [],
        "lengths": [],
        "systems": [],
    }
    pairs = [PairResult(claim=claim, verdict="not run") for claim in PAIR_CLAIMS]
    watersheds = [WatershedResult(claim=claim, verdict="not run") for claim in WATERSHED_CLAIMS]
    if record:
        job = settle(setting, Options(storage=storage))
        overrides = parse_settings(job.overrides)
        found["reports"] = trial_lengths("dense", setting, None, job.steps, overrides).reports
        tuning, found["tuning"] = _study(job, record, setting.tuning_study)
        final, found["final"] = _study(job, record, setting.final_study)
        if tuning is not None:
            found["variants"] = _variants(job, record, tuning)
            found["lengths"] = _lengths(job, found["variants"])
        if final is not None:
            trained = sorted({trial.method for trial in final.trials})
            found["systems"] = _systems(final, setting.tasks, job.systems)
            pairs = list(judge_pairs(final.trials, setting.tasks, trained, job.seeds))
            masks = read_masks(
                final, [t for t in final.trials if t.method in {c.method for c in WATERSHED_CLAIMS}]
            )
            unanimous = overrides.get("sparsity.arbiter", _ARBITER) == _ARBITER
            watersheds = list(
                judge_watersheds(masks, trained, len(setting.tasks), unanimous=unanimous)
            )
    found["pairs"] = [_pair(result) for result in pairs]
    found["watersheds"] = [_watershed(result) for result in watersheds]
    return found


def _study(
    job: Job, record: Mapping[str, Any], name: str
) -> tuple[Study | None, dict[str, Any] | None]:
    """The study if it is finished, and what is known of it in either case."""
    entry = record["studies"].get(name)
    if entry is None:
        return None, None
    finished = num_finished(job.trials_path(name))
    known: dict[str, Any] = {
        "study": name,
        "command": entry["command"],
        "expected_trials": entry["expected"],
        "finished_trials": finished,
        "launches": entry["launches"],
        "seconds": math.fsum(launch.get("seconds", 0.0) for launch in entry["launches"]),
    }
    if finished < entry["expected"]:
        return None, known
    study = load_study(name, job.storage)
    known["parent_run_id"] = study.parent_run_id or study.facts.get("parent_run_id")
    known["training_seconds"] = math.fsum(
        (t.ended - t.started).total_seconds() for t in study.trials if t.started and t.ended
    )
    known["not_complete"] = [
        {"trial": t.trial, "status": t.status, "reason": t.reason or ""}
        for t in study.trials
        if t.status != "complete"
    ]
    return study, known


def _variants(job: Job, record: Mapping[str, Any], tuning: Study) -> list[dict[str, Any]]:
    judged = results(record, job.setting, tuning)
    trained = chosen_settings(job, record, judged)
    rows = []
    for system, found in judged.items():
        best = choose(found)
        rows += [
            {
                "system": system,
                "label": result.variant.label,
                "settings": dict(result.variant.settings),
                "status": result.status,
                "score": _number(result.score),
                "val": dict(result.metrics),
                "relative_to": result.relative_to,
                "best": result is best,
                "chosen": trained.get(system) == dict(result.variant.settings),
                "eligible_reports": _eligible(job, system, result.variant.settings),
            }
            for result in found
        ]
    return rows


def _eligible(job: Job, system: str, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Among how many reports a trial chooses, at each sparsity."""
    overrides = {**parse_settings(job.overrides), **settings}
    rows = []
    for sparsity in (None,) if system in DENSE_METHODS else SPARSITIES:
        found = trial_lengths(system, job.setting, sparsity, job.steps, overrides)
        rows.append({"sparsity": sparsity, "eligible": found.eligible, "reports": found.reports})
    return rows


def _lengths(job: Job, variants: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How the chosen systems that prune in levels divide their steps."""
    rows = []
    for row in variants:
        if not row["chosen"] or row["system"] in DENSE_METHODS:
            continue
        overrides = {**parse_settings(job.overrides), **row["settings"]}
        for sparsity in SPARSITIES:
            found = trial_lengths(row["system"], job.setting, sparsity, job.steps, overrides)
            if found.levels:
                rows.append({"system": row["system"], "sparsity": sparsity, **asdict(found)})
    return rows


def _systems(final: Study, tasks: Sequence[str], systems: Sequence[str]) -> list[dict[str, Any]]:
    """Test metrics of every system at every sparsity; Delta_T to the dense trial of the seed."""
    dense = scores_of(final.trials, "dense", None, tasks)
    rows = []
    for system in systems:
        for sparsity in (None,) if system in DENSE_METHODS else SPARSITIES:
            scores = scores_of(final.trials, system, sparsity, tasks)
            if not scores:
                continue
            deltas = paired_deltas(scores, dense)
            rows.append(
                {
                    "system": system,
                    "sparsity": sparsity,
                    "seeds": len(scores),
                    "test": {
                        task: _spread([s[PRIMARY_METRICS[task]] for s in scores.values()])
                        for task in tasks
                    },
                    "delta_to_dense": None
                    if system == "dense"
                    else _spread(list(deltas.by_seed.values())),
                    "delta_left_out": list(deltas.left_out),
                    "train_flops_fraction": _mean_metric(
                        final.trials, system, sparsity, "cost/train_flops_fraction"
                    ),
                }
            )
    return rows


def _mean_metric(
    trials: Sequence[Trial], system: str, sparsity: float | None, name: str
) -> float | None:
    values = [t.metrics[name] for t in trials if name in t.metrics and is_of(t, system, sparsity)]
    return _number(float(np.mean(values))) if values else None


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; null deviation for one."""
    finite = [v for v in values if math.isfinite(v)]
    return {
        "mean": _number(float(np.mean(finite))) if finite else None,
        "deviation": float(np.std(finite, ddof=1)) if len(finite) > 1 else None,
    }


def _pair(result: PairResult) -> dict[str, Any]:
    claim = result.claim
    return {
        **asdict(claim),
        "name": claim.name,
        "group": claim.group,
        "verdict": result.verdict,
        "pairs": len(result.deltas),
        "delta": None if result.delta is None else _comparison(result.delta),
        "p_adjusted": _number(result.p_adjusted),
        "smallest_p": smallest_p(len(result.deltas)) if result.deltas else None,
        "deltas": {str(seed): value for seed, value in result.deltas.items()},
        "tasks": {task: _comparison(found) for task, found in result.tasks.items()},
        "left_out": list(result.left_out),
        "note": result.note,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "mean": found.mean,
        "low": _number(found.interval.low),
        "high": _number(found.interval.high),
        "relative": _number(found.relative),
        "effect": _number(found.effect),
        "effect_low": _number(found.effect_interval.low),
        "effect_high": _number(found.effect_interval.high),
        "p": _number(found.p_value),
    }


def _watershed(result: WatershedResult) -> dict[str, Any]:
    beyond = result.beyond
    return {
        **asdict(result.claim),
        "name": result.claim.name,
        "verdict": result.verdict,
        "seeds": len(result.correlations),
        "mean": _number(result.mean),
        "low": _number(result.interval.low),
        "high": _number(result.interval.high),
        "correlations": {str(seed): rho for seed, rho in result.correlations.items()},
        "agreement": dict(result.agreement),
        "chance": dict(result.chance),
        "beyond_chance": None
        if beyond is None
        else {
            "seeds": len(beyond.by_seed),
            "mean": _number(beyond.mean),
            "low": _number(beyond.interval.low),
            "high": _number(beyond.interval.high),
            "correlations": {str(seed): rho for seed, rho in beyond.by_seed.items()},
        },
        "note": result.note,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
