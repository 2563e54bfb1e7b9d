"""What the kept results show, as plain values: docs/search.json."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from analysis.statistics.comparing.comparison import Comparison, mean_interval
from analysis.statistics.indicators import Normalisation, hypervolume
from benchmarks.search.results.scores import (
    QUARTERS,
    Trajectory,
    against_peers,
    epochs_to_reach,
    igd_plus,
    mean_curve,
    trajectory,
)
from benchmarks.search.runs import (
    CONCURRENCY,
    REAL,
    Job,
    get_workload,
    load,
    scaled_workload,
    seeds_of,
)
from benchmarks.search.simulator import Trace
from benchmarks.search.systems import peers
from benchmarks.search.systems.catalogue import OURS, PLAIN_TPE, SHIPPED_TPE, SYSTEMS
from benchmarks.search.workloads.surrogates import NOISE
from search.plans.rung_settings import RungSettings

_CURVE_POINTS = 60
_LAST_ASKS = 5  # over which the seconds late in a search are taken
# The dominated volume of thousands of points in six dimensions takes minutes.
_MAX_OBJECTIVES_OF_A_FRONT = 3

Kept = Mapping[str, Mapping[int, Trace]]  # by system, then by seed


def collect(folder: Path, max_seeds: Mapping[str, int], *, long: bool = False) -> dict[str, Any]:
    """Everything that is kept in `folder`: systems over the seeds they have, comparisons over the
    seeds that both have.

    max_seeds: by workload, as many as are looked for. long: see `Job.of`.
    """
    found, shares = [], []
    for workload, seeds in max_seeds.items():
        kept = _kept(folder, workload, seeds, long)
        if OURS in kept and len(kept) > 1:
            budget = Job.of(workload, OURS, 0, long=long).budget_epochs
            described, curves = _workload(workload, kept, budget)
            found.append(described)
            shares.append(_shares(curves, budget, described["front_hypervolume"] or 1.0))
    return {
        "quarters": list(QUARTERS),
        "concurrency": CONCURRENCY,
        "noise": NOISE,
        "peer_rungs": {
            "grace_fraction": peers.GRACE_FRACTION,
            "reduction_factor": peers.REDUCTION_FACTOR,
        },
        "our_rungs": dataclasses.asdict(RungSettings()),
        "workloads": found,
        "pooled": _pooled(shares),
    }


def together(kept: dict[str, Any], known: dict[str, Any] | None, *, pooled: bool) -> dict[str, Any]:
    """What is kept, completed by what was known of other workloads.

    A workload that lacks a search it had stays as it was known.
    pooled: they are told as one, which needs the runs themselves: all is as it was known until
      every workload is kept again.
    """
    if known is None or not known["workloads"]:
        return kept
    before = {workload["name"]: workload for workload in known["workloads"]}
    now = {
        workload["name"]: workload
        for workload in kept["workloads"]
        if _systems(workload) >= _systems(before.get(workload["name"]))
    }
    if now.keys() >= before.keys():
        return kept
    if pooled or not now:
        return known
    return {**known, "workloads": list((before | now).values()), "pooled": []}


def _systems(workload: Mapping[str, Any] | None) -> set[str]:
    return set() if workload is None else {system["name"] for system in workload["systems"]}


def _kept(folder: Path, workload: str, seeds: int, long: bool) -> dict[str, dict[int, Trace]]:
    found: dict[str, dict[int, Trace]] = {}
    for system in SYSTEMS:
        traces = {
            seed: trace
            for seed in seeds_of(workload, seeds)
            if (trace := load(Job.of(workload, system, seed, long=long), folder)) is not None
        }
        if traces:
            found[system] = traces
    return found


def _workload(
    name: str, kept: Kept, budget: int
) -> tuple[dict[str, Any], dict[str, dict[int, Trajectory]]]:
    """What is said of a workload, and the trajectories by system and seed."""
    workload = get_workload(name)
    normalisation = _normalisation(name, kept)
    curves = {
        system: {seed: trajectory(trace, normalisation) for seed, trace in traces.items()}
        for system, traces in kept.items()
    }
    goals = {name: _goal(curves, budget, name) for name in (PLAIN_TPE, SHIPPED_TPE)}
    systems = [
        _system(system, traces, curves[system], budget, goals)
        | _distance(name, traces, normalisation)
        for system, traces in kept.items()
    ]
    compared = _compared(curves, budget)
    for system in systems:
        system["against_ours"] = compared.get(system["name"])
    front = None
    if name != REAL and workload.num_objectives <= _MAX_OBJECTIVES_OF_A_FRONT:
        front = hypervolume(scaled_workload(name).front(), normalisation)
    described = {
        "name": name,
        "title": getattr(workload, "title", name),
        "code": Job.of(name, OURS, 0).code,
        "num_objectives": workload.num_objectives,
        "num_epochs": workload.num_epochs,
        "budget_epochs": budget,
        "normalisation": {"ideal": normalisation.ideal, "nadir": normalisation.nadir},
        "front_hypervolume": front,
        "systems": systems,
    }
    return described, curves


def _normalisation(name: str, kept: Kept) -> Normalisation:
    """From the true front; of the real trainable, from all trials of all systems."""
    if name != REAL:
        return scaled_workload(name).normalisation
    return Normalisation.of(
        np.array(
            [c.worth for traces in kept.values() for t in traces.values() for c in t.completions]
        )
    )


def _system(
    name: str,
    traces: Mapping[int, Trace],
    curves: Mapping[int, Trajectory],
    budget: int,
    goals: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    entry = SYSTEMS[name]
    goal, shipped = goals[PLAIN_TPE], goals[SHIPPED_TPE]
    mean = mean_curve(list(curves.values()), budget)
    picked = np.unique(np.linspace(1, budget, _CURVE_POINTS).round().astype(int))
    return {
        "name": name,
        "label": entry.label,
        "role": entry.role,
        "seeds": sorted(traces),
        "quarters": [_mean([c.at(q * budget) for c in curves.values()]) for q in QUARTERS],
        "trials": fmean(t.num_trials for t in traces.values()),
        "complete": fmean(len(t.completions) for t in traces.values()),
        "thinking_seconds": _thinking(traces),
        "feasible": fmean(sum(c.feasible for c in t.completions) for t in traces.values()),
        "epochs_to_goal": epochs_to_reach(mean, goal["level"]) if goal else None,
        "epochs_to_shipped": epochs_to_reach(mean, shipped["level"]) if shipped else None,
        "share_of_epochs_by_seed": _paired_share(curves, goal, budget) if goal else None,
        "curve": {
            "epochs": picked.tolist(),
            "hypervolume": mean[picked - 1].tolist(),
        },
    }


def _thinking(traces: Mapping[int, Trace]) -> dict[str, float]:
    """Seconds of the processor for a trial, on average and late in a search."""
    return {
        "mean": fmean(fmean(t.thinking_seconds) for t in traces.values()),
        "last": fmean(fmean(t.thinking_seconds[-_LAST_ASKS:]) for t in traces.values()),
    }


def _shares(
    curves: Mapping[str, Mapping[int, Trajectory]], budget: int, best: float
) -> dict[str, dict[int, list[float]]]:
    """Hypervolume at each quarter as a share of the best known, by system and seed."""
    return {
        name: {seed: [c.at(q * budget) / best for q in QUARTERS] for seed, c in found.items()}
        for name, found in curves.items()
    }


def _pooled(shares: Sequence[Mapping[str, Mapping[int, list[float]]]]) -> list[dict[str, Any]]:
    """Over all workloads: of each system the mean of the shares, and ours minus it over all pairs
    of a workload and a seed that both have, with Holm's correction over the systems."""
    names = dict.fromkeys(name for found in shares for name in found)
    theirs: dict[str, list[list[float]]] = {name: [] for name in names}
    ours: dict[str, list[list[float]]] = {name: [] for name in names}
    for found in shares:
        for name, by_seed in found.items():
            for seed in sorted(set(by_seed) & set(found[OURS])):
                theirs[name].append(by_seed[seed])
                ours[name].append(found[OURS][seed])
    compared: dict[str, list[dict[str, Any]]] = {}
    for role in ("peer", "part"):
        rivals = [n for n in names if SYSTEMS[n].role == role and len(theirs[n]) > 1]
        for index in range(len(QUARTERS)) if rivals else ():
            ends = {name: [row[index] for row in theirs[name]] for name in rivals}
            of_ours = {name: [row[index] for row in ours[name]] for name in rivals}
            for name, (comparison, p_holm) in against_peers(of_ours, ends).items():
                compared.setdefault(name, []).append(_comparison(comparison, p_holm))
    return [
        {
            "name": name,
            "label": SYSTEMS[name].label,
            "role": SYSTEMS[name].role,
            "workloads": sum(name in found for found in shares),
            "quarters": np.mean(theirs[name], axis=0).tolist(),
            "ours": np.mean(ours[name], axis=0).tolist(),
            "against_ours": compared.get(name),
        }
        for name in names
        if theirs[name]
    ]


def _goal(
    curves: Mapping[str, Mapping[int, Trajectory]], budget: int, system: str
) -> dict[str, Any]:
    """A system's final hypervolume, on average and by seed; empty where it was not run."""
    if system not in curves:
        return {}
    of_tpe = curves[system]
    level = float(mean_curve(list(of_tpe.values()), budget)[-1])
    return {"level": level, "by_seed": {seed: curve.final for seed, curve in of_tpe.items()}}


def _paired_share(
    curves: Mapping[int, Trajectory], goal: Mapping[str, Any], budget: int
) -> dict[str, Any]:
    """Epochs to plain TPE's final hypervolume of the same seed, over the budget: the median,
    infinite (None) where fewer than half of the seeds reach it."""
    shares = []
    for seed, curve in curves.items():
        if seed in goal["by_seed"]:
            epochs = curve.reaches(goal["by_seed"][seed])
            shares.append(math.inf if epochs is None else epochs / budget)
    middle = median(shares) if shares else math.inf
    return {
        "median": None if math.isinf(middle) else middle,
        "reached": sum(map(math.isfinite, shares)),
        "seeds": len(shares),
    }


def _distance(
    name: str, traces: Mapping[int, Trace], normalisation: Normalisation
) -> dict[str, Any]:
    """IGD+ to the true front; the real trainable has none that is known. Seeds with nothing
    feasible are left out and counted."""
    if name == REAL:
        return {"igd_plus": None}
    front = scaled_workload(name).front()
    values = [igd_plus(trace, front, normalisation) for trace in traces.values()]
    known = [value for value in values if math.isfinite(value)]
    return {
        "igd_plus": None
        if not known
        else {**_mean(known), "without_feasible": len(values) - len(known)}
    }


def _compared(
    curves: Mapping[str, Mapping[int, Trajectory]], budget: int
) -> dict[str, list[dict[str, Any]]]:
    """Ours minus every other system at each quarter, over the seeds both have.

    Holm's correction is over the peers, and over the parts apart from them.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for role in ("peer", "part"):
        names = [n for n in curves if SYSTEMS[n].role == role]
        seeds = {n: sorted(set(curves[n]) & set(curves[OURS])) for n in names}
        names = [n for n in names if len(seeds[n]) > 1]
        for quarter in QUARTERS if names else ():
            values = {n: _at(curves[n], seeds[n], quarter * budget) for n in names}
            ours = {n: _at(curves[OURS], seeds[n], quarter * budget) for n in names}
            for name, (comparison, p_holm) in against_peers(ours, values).items():
                found.setdefault(name, []).append(_comparison(comparison, p_holm))
    return found


def _at(curves: Mapping[int, Trajectory], seeds: Sequence[int], epochs: float) -> list[float]:
    return [curves[seed].at(epochs) for seed in seeds]


def _comparison(found: Comparison, p_holm: float) -> dict[str, Any]:
    return {
        "pairs": found.num_pairs,
        "mean": found.mean,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": found.p_value,
        "p_holm": p_holm,
    }


def _mean(values: Sequence[float]) -> dict[str, Any]:
    interval = mean_interval(values)
    finite = math.isfinite(interval.low)
    return {
        "mean": fmean(values),
        "low": interval.low if finite else None,
        "high": interval.high if finite else None,
    }
