"""From finished trials to verdicts: paired by seed, on test, by margins settled beforehand."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from analysis.statistics.chance import chance_by_layer
from analysis.statistics.comparing import comparison
from analysis.statistics.comparing.comparison import Comparison, Interval
from analysis.statistics.comparing.deltas import Scores, paired_deltas
from analysis.statistics.watershed import DepthCorrelation, correlate, mean_path
from analysis.studies.masks import TrialMasks
from analysis.studies.systems_by_seed import at_sparsity, target_sparsity
from analysis.studies.trials import Trial
from benchmarks.claims.protocol import (
    INTERVAL_LEVEL,
    PAIR_CLAIMS,
    WATERSHED_CLAIMS,
    PairClaim,
    WatershedClaim,
)
from spaces.presets import DENSE_METHODS
from trainables.report import PRIMARY_METRICS, describe, task_metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class PairResult:
    """One claim that a method is at least as good as a reference, on one data set.

    delta: of Delta_T in percent between the two, per seed; None without a pair.
    tasks: of each task's primary metric, in its unit; positive is better.
    p_adjusted: Holm's, over the claims of the setting.
    deltas: the differences themselves, by seed.
    left_out: metrics that are not in Delta_T because some seed cannot compare them.
    """

    claim: PairClaim
    verdict: str
    delta: Comparison | None = None
    tasks: Mapping[str, Comparison] = field(default_factory=dict)
    deltas: Mapping[int, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    p_adjusted: float = math.nan
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatershedResult:
    """Whether agreement falls with depth. correlations: Spearman's, by seed; falling is < 0.

    interval: of their mean, cut to [−1, 1].
    agreement: mean over seeds, by layer, from the image to the heads.
    chance: what random votes of the same densities would have; empty where that is not known.
    beyond: the correlation of agreement minus chance with depth. It decides nothing.
    """

    claim: WatershedClaim
    verdict: str
    correlations: Mapping[int, float] = field(default_factory=dict)
    mean: float = math.nan
    interval: Interval = field(default_factory=lambda: Interval(low=-math.inf, high=math.inf))
    agreement: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    beyond: DepthCorrelation | None = None
    note: str = ""


def scores_of(
    trials: Iterable[Trial], system: str, sparsity: float | None, tasks: Sequence[str]
) -> dict[int, dict[str, float]]:
    """Test metrics by seed of the complete trials of `system`; dense systems have no sparsity.

    A trial with a metric that is missing or not finite is no evidence and is left out.
    """
    names = [name for task in tasks for name in task_metrics(task)]
    found = {}
    for trial in trials:
        if not is_of(trial, system, sparsity) or trial.seed is None:
            continue
        metrics = {n: trial.metrics[f"test/{n}"] for n in names if f"test/{n}" in trial.metrics}
        whole = all(PRIMARY_METRICS[task] in metrics for task in tasks)
        if whole and all(math.isfinite(value) for value in metrics.values()):
            found[trial.seed] = metrics
    return found


def judge_pair(
    claim: PairClaim, method: Scores, reference: Scores, tasks: Sequence[str]
) -> PairResult:
    """`delta` compares each seed's Delta_T of the method to the reference with zero.

    Holds where the whole interval of its mean lies above minus the margin, does not hold where
    all of it lies below, else undecided; without two pairs it is undecided.
    """
    found = paired_deltas(method, reference)
    deltas = found.by_seed
    if not deltas:
        note = _without(found.left_out) or "no seed has both systems"
        return PairResult(claim=claim, verdict="undecided", left_out=found.left_out, note=note)
    kept = list(deltas)
    values = np.array(list(deltas.values()))
    delta = comparison.compare(values, np.zeros(len(values)), confidence=INTERVAL_LEVEL)
    by_task = {}
    for task in tasks:
        name = PRIMARY_METRICS[task]
        by_task[task] = comparison.compare(
            [method[seed][name] for seed in kept],
            [reference[seed][name] for seed in kept],
            lower_is_better=describe(name).direction == "minimize",
            confidence=INTERVAL_LEVEL,
        )
    verdict = (
        comparison.verdict(delta.interval, claim.margin_percent, kind="non-inferior")
        if claim.margin_percent > 0
        else comparison.verdict(delta.interval, kind="superior")
    )
    return PairResult(
        claim=claim,
        verdict=verdict,
        delta=delta,
        tasks=by_task,
        deltas=deltas,
        left_out=found.left_out,
        note=_without(found.left_out),
    )


def _without(left_out: Sequence[str]) -> str:
    if not left_out:
        return ""
    return f"Δ_T without {', '.join(left_out)} (0 in the reference, or missing, at some seed)"


def judge_pairs(
    trials: Sequence[Trial], tasks: Sequence[str], systems: Sequence[str], num_seeds: int
) -> tuple[PairResult, ...]:
    """All of `PAIR_CLAIMS` on one finished study, with Holm's adjustment over them.

    A claim about a system that the study leaves out was not run.
    """
    results = []
    for claim in PAIR_CLAIMS:
        absent = [s for s in (claim.method, claim.reference) if s not in systems]
        if absent:
            note = f"{' and '.join(absent)} not in the study"
            results.append(PairResult(claim=claim, verdict="not run", note=note))
            continue
        method = scores_of(trials, claim.method, claim.sparsity, tasks)
        reference = scores_of(trials, claim.reference, claim.reference_sparsity, tasks)
        result = judge_pair(claim, method, reference, tasks)
        if 0 < len(result.deltas) < num_seeds:
            notes = [f"{len(result.deltas)} of {num_seeds} pairs are complete", result.note]
            result = replace(result, note="; ".join(filter(None, notes)))
        results.append(result)
    p_values = [math.nan if r.delta is None else r.delta.p_value for r in results]
    adjusted = comparison.holm(p_values)
    return tuple(replace(r, p_adjusted=float(p)) for r, p in zip(results, adjusted, strict=True))


def judge_watershed(
    claim: WatershedClaim,
    agreements: Mapping[int, Mapping[str, float]],
    chances: Mapping[int, Mapping[str, float]] | None = None,
) -> WatershedResult:
    """From the agreement by layer (in the model's order) of each seed. chances: by chance.

    Shortcuts stand beside the path and have no place along it: they are left out. Holds where the
    whole interval of the mean correlation lies below 0.
    """
    found = correlate(dict(sorted(agreements.items())), INTERVAL_LEVEL)
    if not found.by_seed:
        note = "no trial left an agreement that varies over layers"
        return WatershedResult(claim=claim, verdict="undecided", note=note)
    beyond = {
        seed: {name: agreements[seed][name] - value for name, value in by_layer.items()}
        for seed, by_layer in sorted((chances or {}).items())
    }
    return WatershedResult(
        claim=claim,
        verdict=comparison.verdict(
            Interval(low=-found.interval.high, high=-found.interval.low), kind="superior"
        ),
        correlations=found.by_seed,
        mean=found.mean,
        interval=found.interval,
        agreement=mean_path(agreements.values()),
        chance=mean_path((chances or {}).values()),
        beyond=correlate(beyond, INTERVAL_LEVEL) if beyond else None,
    )


def judge_watersheds(
    masks: Iterable[TrialMasks], systems: Sequence[str], num_tasks: int, *, unanimous: bool
) -> tuple[WatershedResult, ...]:
    """All of `WATERSHED_CLAIMS`; `masks` are those that the study's trials left.

    unanimous: whether every trial pruned what all tasks agreed on, so that its mask is the union
      of the votes and the agreement to be expected by chance is known.
    """
    left = list(masks)
    results = []
    for claim in WATERSHED_CLAIMS:
        if claim.method not in systems:
            note = f"{claim.method} not in the study"
            results.append(WatershedResult(claim=claim, verdict="not run", note=note))
            continue
        voted = {
            m.trial.seed: m
            for m in left
            if m.trial.seed is not None
            and m.agreement
            and is_of(m.trial, claim.method, claim.sparsity)
        }
        agreements = {seed: m.agreement for seed, m in voted.items()}
        chances = {seed: chance_by_layer(m, num_tasks) for seed, m in voted.items() if unanimous}
        results.append(judge_watershed(claim, agreements, chances))
    return tuple(results)


def is_of(trial: Trial, system: str, sparsity: float | None) -> bool:
    """Whether `trial` is a complete one of `system` at `sparsity`, which dense systems ignore."""
    if trial.method != system or trial.status != "complete":
        return False
    if system in DENSE_METHODS or sparsity is None:
        return True
    return at_sparsity(target_sparsity(trial), sparsity)
