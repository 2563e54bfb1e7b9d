"""Verdicts on figures worked by hand."""

import math
from typing import Any

import pytest

from analysis.studies.trials import Trial
from benchmarks.claims.protocol import (
    PAIR_CLAIMS,
    SYSTEMS,
    PairClaim,
    WatershedClaim,
)
from benchmarks.claims.results.verdicts import (
    judge_pair,
    judge_pairs,
    judge_watershed,
    scores_of,
)
from tests.benchmarks.claims.claims_studies import metrics_of

T_975_2 = 4.302653  # Student's t with two degrees of freedom


def depth(*errors: float) -> dict[int, dict[str, float]]:
    """One metric and one task: Delta_T is that metric's relative change."""
    return {seed: {"depth/absolute_error": error} for seed, error in enumerate(errors)}


def claim(margin: float = 0.0) -> PairClaim:
    return PairClaim(method="snip", reference="random", sparsity=0.9, margin_percent=margin)


def test_delta_and_interval_by_hand() -> None:
    """Errors 20 %, 10 % and 30 % less: mean 20, deviation 10."""
    result = judge_pair(claim(), depth(0.8, 0.9, 0.7), depth(1.0, 1.0, 1.0), ("depth",))
    assert result.delta is not None
    assert list(result.deltas.values()) == pytest.approx([20.0, 10.0, 30.0])
    half = T_975_2 * 10 / math.sqrt(3)
    assert result.delta.mean == pytest.approx(20.0)
    assert result.delta.interval.low == pytest.approx(20 - half, abs=1e-4)
    assert result.delta.interval.high == pytest.approx(20 + half, abs=1e-4)
    assert result.verdict == "undecided"  # the half-width is 24.8
    assert result.tasks["depth"].mean == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("errors", "margin", "verdict"),
    [
        ((0.80, 0.79, 0.81), 0.0, "holds"),  # 20 ± 2.5
        ((1.20, 1.19, 1.21), 0.0, "does not hold"),
        ((1.010, 1.011, 1.009), 0.0, "does not hold"),  # −1 ± 0.25: worse,
        ((1.010, 1.011, 1.009), 2.0, "holds"),  # but by less than the margin
        ((1.030, 1.031, 1.029), 2.0, "does not hold"),  # −3 ± 0.25
        ((1.020, 1.021, 1.019), 2.0, "undecided"),  # −2 ± 0.25
        ((1.0, 1.0, 1.0), 0.0, "undecided"),
        ((1.0, 1.0, 1.0), 2.0, "holds"),
        ((0.5,), 0.0, "undecided"),  # one pair bounds nothing
    ],
)
def test_the_rule(errors: tuple[float, ...], margin: float, verdict: str) -> None:
    result = judge_pair(claim(margin), depth(*errors), depth(*[1.0] * len(errors)), ("depth",))
    assert result.verdict == verdict


def test_pairs_are_by_seed_not_by_order() -> None:
    """Two systems that share seeds 1 and 2 alone; at each the method is 10 % better."""
    method = {2: {"depth/absolute_error": 1.8}, 1: {"depth/absolute_error": 0.9}}
    reference = {
        0: {"depth/absolute_error": 9.0},
        1: {"depth/absolute_error": 1.0},
        2: {"depth/absolute_error": 2.0},
    }
    result = judge_pair(claim(), method, reference, ("depth",))
    assert result.deltas == pytest.approx({1: 10.0, 2: 10.0})
    assert result.verdict == "holds"


def test_a_metric_without_a_relative_change_is_out_at_every_seed() -> None:
    """The error is 10 % less at both seeds; the share within 1.25 counts at neither."""
    near = "depth/within_1_25"
    method = {s: {**m, near: 0.2} for s, m in depth(0.9, 0.9).items()}
    reference = {s: {**m, near: 0.1 * s} for s, m in depth(1.0, 1.0).items()}
    result = judge_pair(claim(), method, reference, ("depth",))
    assert result.deltas == pytest.approx({0: 10.0, 1: 10.0})
    assert result.left_out == (near,)
    assert near in result.note


def test_no_shared_seed_is_undecided() -> None:
    result = judge_pair(claim(), {0: {}}, {1: {}}, ("depth",))
    assert (result.verdict, result.delta) == ("undecided", None)
    assert "no seed" in result.note


def trial(method: str, seed: int, share: float, **changes: Any) -> Trial:
    params = {"method": method, "sparsity.target": changes.pop("sparsity", 0.9)}
    metrics = {**metrics_of(share, ("depth",)), **changes.pop("metrics", {})}
    values = {"trial": "t", "number": 0, "status": "complete", **changes}
    return Trial(method=method, seed=seed, params=params, metrics=metrics, **values)


def test_only_complete_finite_test_metrics_of_the_sparsity_count() -> None:
    trials = [
        trial("snip", 0, 1.0),
        trial("snip", 1, 1.0, sparsity=0.3),
        trial("snip", 2, 1.0, status="failed"),
        trial("snip", 3, 1.0, metrics={"test/depth/relative_error": math.nan}),
        trial("rigl", 4, 1.0),
    ]
    assert list(scores_of(trials, "snip", 0.9, ("depth",))) == [0]
    # A dense system's recorded target, if any, is not asked for.
    dense = [trial("dense", 5, 1.0, sparsity=0.0)]
    assert list(scores_of(dense, "dense", None, ("depth",))) == [5]


def test_validation_has_no_say() -> None:
    better_on_val = {"val/depth/absolute_error": 0.0}
    trials = [trial("snip", seed, 1.1, metrics=better_on_val) for seed in range(3)]
    trials += [trial("disparse-static", seed, 1.0 + 0.001 * seed) for seed in range(3)]
    results = judge_pairs(trials, ("depth",), ("snip", "disparse-static"), 3)
    judged = {r.claim.name: r.verdict for r in results if r.verdict != "not run"}
    assert judged == {"disparse-static-snip-30": "undecided", "disparse-static-snip-90": "holds"}
    assert len(results) == len(PAIR_CLAIMS)


def test_holm_over_the_claims_of_a_setting() -> None:
    """Five equal signs give p = 1/16 to both claims that were judged: adjusted 2/16."""
    trials = [trial("disparse-static", s, 0.9 - 0.01 * s, sparsity=q) for s in range(5)
              for q in (0.3, 0.9)]  # fmt: skip
    trials += [trial("snip", s, 1.0, sparsity=q) for s in range(5) for q in (0.3, 0.9)]
    results = judge_pairs(trials, ("depth",), ("snip", "disparse-static"), 5)
    adjusted = [r.p_adjusted for r in results if r.delta is not None]
    assert adjusted == pytest.approx([0.125, 0.125])


def test_missing_pairs_are_said() -> None:
    trials = [trial("disparse-static", s, 0.9) for s in range(3)]
    trials += [trial("snip", s, 1.0) for s in range(2)]
    results = judge_pairs(trials, ("depth",), ("snip", "disparse-static"), 3)
    notes = {r.claim.name: r.note for r in results if r.delta is not None}
    assert notes == {"disparse-static-snip-90": "2 of 3 pairs are complete"}


WATERSHED = WatershedClaim(method="disparse-static", sparsity=0.9)


def layers(*values: float) -> dict[str, float]:
    return {f"blocks.{i}.conv": value for i, value in enumerate(values)}


def test_a_watershed_by_hand() -> None:
    """Ranks 4 3 2 1 give −1; 4 2 3 1 against 0 1 2 3 gives 1 − 6·18/60 = −0.8."""
    agreements = {0: layers(0.9, 0.8, 0.7, 0.6), 1: layers(0.9, 0.7, 0.8, 0.6)}
    result = judge_watershed(WATERSHED, agreements)
    assert result.correlations == pytest.approx({0: -1.0, 1: -0.8})
    assert result.mean == pytest.approx(-0.9)
    # Half-width 12.706 · 0.1414 / √2 = 1.27: two seeds cannot tell.
    assert result.interval.high == pytest.approx(-0.9 + 1.2706, abs=1e-3)
    assert result.interval.low == -1.0  # no correlation lies below
    assert result.verdict == "undecided"
    assert result.agreement == pytest.approx(layers(0.9, 0.75, 0.75, 0.6))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.9, 0.8, 0.7), "holds"),
        ((0.7, 0.8, 0.9), "does not hold"),
        ((0.9, 0.9, 0.9), "undecided"),  # no order, no correlation
    ],
)
def test_the_watersheds_rule(values: tuple[float, ...], verdict: str) -> None:
    result = judge_watershed(WATERSHED, {seed: layers(*values) for seed in range(3)})
    assert result.verdict == verdict


def test_shortcuts_have_no_place_along_the_path() -> None:
    values = {"a.conv": 0.9, "a.downsample": 0.0, "b.conv": 0.8, "c.conv": 0.7}
    assert judge_watershed(WATERSHED, {0: values}).correlations == pytest.approx({0: -1.0})


def test_what_falls_by_chance_alone_does_not_fall_beyond_it() -> None:
    """The verdict stays the rule's; beyond chance 0.05, 0.08, 0.2 and 0.3 rise."""
    agreements = {seed: layers(0.9, 0.8, 0.7, 0.6) for seed in range(3)}
    chances = {seed: layers(0.85, 0.72, 0.5, 0.3) for seed in range(3)}
    result = judge_watershed(WATERSHED, agreements, chances)
    assert result.verdict == "holds"
    assert result.chance == pytest.approx(layers(0.85, 0.72, 0.5, 0.3))
    assert result.beyond is not None
    assert result.beyond.mean == pytest.approx(1.0)
    assert judge_watershed(WATERSHED, agreements).beyond is None


def test_every_claim_is_about_systems_of_the_study() -> None:
    assert {c.method for c in PAIR_CLAIMS} | {c.reference for c in PAIR_CLAIMS} == set(SYSTEMS)
    assert len({c.name for c in PAIR_CLAIMS}) == len(PAIR_CLAIMS) == 21
    assert [c.margin_percent > 0 for c in PAIR_CLAIMS] == [
        c.group == "lossless" for c in PAIR_CLAIMS
    ]
