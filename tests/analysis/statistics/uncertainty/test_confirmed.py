"""Means, intervals, ties and the winner's curse over fresh seeds, worked by hand."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from analysis.statistics.fronts import task_fronts
from analysis.statistics.uncertainty.confirmed import (
    Confirmed,
    are_tied,
    confirmations,
    fresh_seeds,
    optimism,
    ties,
)
from analysis.studies.trials import Study, Trial, load_study
from tests.analysis.built_studies import BuiltStudy, Row, confirming, simple_row

MIOU, DENSITY = "val/segmentation/miou", "cost/density"


def one(number: int, values: dict[int, float], selected: float = 0.5) -> Confirmed:
    def trial(seed: int, value: float, confirms: int | None = None) -> Trial:
        return Trial(
            trial=f"s-{number:05d}",
            number=number,
            method="snip",
            seed=seed,
            status="complete",
            metrics={MIOU: value, DENSITY: 0.1 * (number + 1)},
            confirms=confirms,
        )

    runs = {seed: trial(seed, value, number) for seed, value in values.items()}
    return Confirmed(trial=trial(0, selected), runs=runs)


def test_an_interval_worked_by_hand() -> None:
    """Of 0.4, 0.5 and 0.6: the mean 0.5, s = 0.1, t(0.975, 2) = 4.30265, half = t·s/√3.

    With two degrees of freedom the quantile is (2p - 1) / √(2p(1 - p)).
    """
    confirmed = one(0, {11: 0.4, 12: 0.5, 13: 0.6}, selected=0.9)
    interval = confirmed.interval(MIOU)
    assert confirmed.mean(MIOU) == pytest.approx(0.5)
    half = 0.95 / math.sqrt(2 * 0.975 * 0.025) * 0.1 / math.sqrt(3)
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    assert one(0, {11: 0.4}).interval(MIOU).high == math.inf
    assert math.isnan(one(0, {}).mean(MIOU))


def test_ties_are_paired_by_seed() -> None:
    """Seeds differ by more than the trials do, and yet tell them apart: each is better by 0.02."""
    low, high = one(0, {1: 0.3, 2: 0.5, 3: 0.7}), one(1, {1: 0.32, 2: 0.52, 3: 0.721})
    assert low.interval(MIOU).high > high.interval(MIOU).low  # the intervals overlap widely
    assert not are_tied(low, high, [MIOU])
    assert not are_tied(high, low, [MIOU])


def test_a_difference_that_changes_its_sign_is_a_tie() -> None:
    first, second = one(0, {1: 0.3, 2: 0.5, 3: 0.7}), one(1, {1: 0.34, 2: 0.48, 3: 0.69})
    assert are_tied(first, second, [MIOU])
    # In another metric they differ without any spread: 0.1 against 0.2 at every seed.
    assert not are_tied(first, second, [MIOU, DENSITY])


def test_equal_values_are_ties_and_without_an_interval_nobody_is() -> None:
    assert are_tied(one(0, {1: 0.3, 2: 0.5}), one(1, {1: 0.3, 2: 0.5}), [MIOU])
    first, second = one(0, {1: 0.3, 2: 0.5}), one(1, {2: 0.5, 3: 0.5})
    assert not are_tied(first, second, [MIOU])
    known = {"s-00000": first, "s-00001": one(1, {2: 0.5})}
    assert ties([first.trial, second.trial], known, [MIOU]) == {"s-00000": ()}


def test_ties_name_the_others_by_number() -> None:
    found = {
        f"s-{number:05d}": one(number, values)
        for number, values in enumerate(
            [{1: 0.3, 2: 0.4, 3: 0.5}, {1: 0.31, 2: 0.39, 3: 0.5}, {1: 0.8, 2: 0.9, 3: 1.0}]
        )
    }
    members = [each.trial for each in found.values()]
    assert ties(members, found, [MIOU]) == {"s-00000": (1,), "s-00001": (0,), "s-00002": ()}
    assert ties(members[1:], found, [MIOU]) == {"s-00001": (), "s-00002": ()}


def test_the_winners_curse_is_positive_where_selection_flattered() -> None:
    """By 0.6 - 0.5 and 0.5 - 0.6 in mIoU: one each way, 0 on average."""
    members = [one(0, {1: 0.4, 2: 0.6}, selected=0.6), one(1, {1: 0.6, 2: 0.6}, selected=0.5)]
    (gap,) = optimism(members, [MIOU])
    assert (gap.share, gap.num_trials) == (1, 2)
    assert gap.mean == pytest.approx(0.0, abs=1e-12)
    assert optimism(members[:1], [MIOU])[0].mean == pytest.approx(0.1)


@pytest.fixture
def study(record: Callable[..., BuiltStudy]) -> Study:
    """Two members, one of them with a replicate; seeds 501 to 503, one training failed."""
    dense, sparse = simple_row(0, "dense", 1.0, 0.6), simple_row(1, "snip", 0.2, 0.5)
    sparse.params = {"method": "snip", "sparsity.target": 0.8}
    replicate = simple_row(2, "snip", 0.2, 0.45)
    replicate.params = dict(sparse.params)
    rows = [dense, sparse, replicate]
    for place, shift in enumerate([-0.02, 0.0, 0.01]):
        rows.append(confirming(dense, len(rows), 501 + place, shift))
        rows.append(confirming(sparse, len(rows), 501 + place, 2 * shift))
    rows[-1].status, rows[-1].metrics = "failed", {}
    rows[-2].status = "infeasible"  # a run to the end is a run to the end
    built = record("s", rows, tasks=("segmentation",))
    return load_study("s", built.storage)


def test_replicates_share_what_was_trained_again_of_any_of_them(
    record: Callable[..., BuiltStudy],
) -> None:
    """Also where the one that was trained again has given its place to its system."""
    rows = []
    for number in range(3):
        rows.append(simple_row(number, "snip", 0.2, 0.5))
        rows[-1].params = {"method": "snip", "seed": number}
    rows += [confirming(rows[0], 3, 501, 0.0), confirming(rows[2], 4, 502, 0.1)]
    study = load_study("s", record("s", rows, tasks=("segmentation",)).storage)
    for trials in (study.trials, study.trials[:1]):
        found = confirmations(replace(study, trials=trials))
        assert [one.values(MIOU) for one in found.values()] == [
            {501: 0.5, 502: pytest.approx(0.6)}
        ] * len(trials)


def test_confirmations_are_no_trials_of_the_study(study: Study) -> None:
    assert [t.number for t in study.trials] == [0, 1, 2]
    assert [t.number for t in study.confirmations] == [3, 4, 5, 6, 7, 8]
    found = confirmations(study)
    assert fresh_seeds(found) == (501, 502, 503)
    assert {name: list(each.runs) for name, each in found.items()} == {
        "s-00000": [501, 502, 503],
        "s-00001": [501, 502],
        "s-00002": [501, 502],  # the same settings under another seed
    }
    assert found["s-00000"].mean(MIOU) == pytest.approx(0.6 - 0.01 / 3)
    (front,) = task_fronts(study)
    assert [t.number for t in front.front] == [1, 0]
    assert [each.trial.number for each in front.confirmed] == [0, 1, 2]


def test_trials_without_recorded_settings_share_nothing(record: Callable[..., BuiltStudy]) -> None:
    rows: list[Row] = [simple_row(0, "snip", 0.2, 0.5), simple_row(1, "snip", 0.3, 0.6)]
    rows.append(confirming(rows[0], 2, 501, 0.1))
    built = record("s", rows, tasks=("segmentation",))
    assert list(confirmations(load_study("s", built.storage))) == ["s-00000"]
