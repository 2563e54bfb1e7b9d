"""Scores of a search, worked by hand; findings, document and figure from kept results."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.statistics.indicators import Normalisation
from benchmarks.search.results.document import render
from benchmarks.search.results.figure import draw
from benchmarks.search.results.findings import collect
from benchmarks.search.results.scores import (
    Trajectory,
    against_peers,
    epochs_to_reach,
    igd_plus,
    mean_curve,
    trajectory,
)
from benchmarks.search.runs import FULL_LENGTHS, Job, obtain, seeds_of
from benchmarks.search.simulator import Completion, Trace
from trainables.terminal.answers import write_json

UNIT = Normalisation(ideal=(0.0, 0.0), nadir=(1.0, 1.0))


def trace(*completions: tuple[int, tuple[float, float], bool]) -> Trace:
    return Trace(
        budget_epochs=100,
        num_trials=9,
        completions=tuple(
            Completion(number=i, epochs=epochs, worth=worth, feasible=feasible)
            for i, (epochs, worth, feasible) in enumerate(completions)
        ),
        stopped_epochs=(),
    )


def test_hypervolume_over_epochs_worked_by_hand() -> None:
    found = trajectory(
        trace(
            (10, (0.6, 0.6), True),  # 0.5 · 0.5
            (20, (0.0, 0.0), False),  # infeasible: counts for nothing
            (30, (0.7, 0.7), True),  # dominated: raises nothing
            (40, (0.1, 0.6), True),  # 1.0 · 0.5
            (50, (0.6, 0.1), True),  # 1.0 · 0.5 + 0.5 · 0.5
        ),
        UNIT,
    )
    assert found.epochs_K == (10, 40, 50)
    assert found.hypervolume_K == pytest.approx([0.25 / 1.21, 0.5 / 1.21, 0.75 / 1.21])
    assert [found.at(e) for e in (9, 10, 39.5, 40)] == pytest.approx(
        [0.0, 0.25 / 1.21, 0.25 / 1.21, 0.5 / 1.21]
    )
    assert found.final == found.at(100)
    assert [found.reaches(v) for v in (0.0, 0.3, 0.9)] == [10, 40, None]


def test_nothing_feasible_is_worth_nothing() -> None:
    found = trajectory(trace((10, (0.1, 0.1), False)), UNIT)
    assert (found.final, found.at(100), found.reaches(0.1)) == (0.0, 0.0, None)
    assert igd_plus(trace((10, (0.1, 0.1), False)), [(0.0, 0.0)], UNIT) == math.inf


def test_igd_plus_counts_only_what_is_worse() -> None:
    # To (0, 1): from (0.3, 1) it is 0.3, from (1, 0.4) it is 1. To (1, 0): 0.4 from the second;
    # what is better in an objective counts for nothing.
    found = igd_plus(
        trace((1, (0.3, 1.0), True), (2, (1.0, 0.4), True), (3, (0.0, 0.0), False)),
        [(0.0, 1.0), (1.0, 0.0)],
        UNIT,
    )
    assert found == pytest.approx((0.3 + 0.4) / 2)


def test_mean_curve_and_the_epoch_it_reaches_a_level() -> None:
    first = Trajectory(epochs_K=(2, 4), hypervolume_K=(0.2, 0.6))
    second = Trajectory(epochs_K=(3,), hypervolume_K=(0.4,))
    curve = mean_curve([first, second], 5)
    np.testing.assert_allclose(curve, [0.0, 0.1, 0.3, 0.5, 0.5])
    assert [epochs_to_reach(curve, v) for v in (0.0, 0.3, 0.5, 0.51)] == [1, 3, 4, None]


def test_peers_are_compared_by_seed_and_corrected_together() -> None:
    ours = [0.5, 0.6, 0.7, 0.8, 0.9]
    peers = {"worse": [v - 0.1 for v in ours], "level": [0.6, 0.5, 0.8, 0.7, 0.9]}
    found = against_peers(dict.fromkeys(peers, ours), peers)
    comparison, p_holm = found["worse"]
    assert comparison.mean == pytest.approx(0.1)
    assert comparison.p_value == pytest.approx(2**-4)  # all five signs alike
    assert p_holm == pytest.approx(2 * 2**-4)
    assert found["level"][0].mean == pytest.approx(0.0)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "results"
    for workload in ("crossing", "infeasible"):
        monkeypatch.setitem(FULL_LENGTHS, workload, 12)
        for system in ("ours", "random", "optuna-search", "grace-1-9"):
            for seed in seeds_of(workload, 3):
                obtain(Job.of(workload, system, seed), folder)
    return folder


def test_findings_hold_what_the_traces_say_and_the_document_says_it(
    kept: Path, tmp_path: Path
) -> None:
    found = collect(kept, {"crossing": 3, "infeasible": 3, "six": 3})
    assert [w["name"] for w in found["workloads"]] == ["crossing", "infeasible"]
    crossing = found["workloads"][0]
    systems: dict[str, Any] = {s["name"]: s for s in crossing["systems"]}
    finals = [
        trajectory(
            obtain(Job.of("crossing", "random", seed), kept),
            Normalisation(**crossing["normalisation"]),
        ).final
        for seed in seeds_of("crossing", 3)
    ]
    assert systems["random"]["quarters"][-1]["mean"] == pytest.approx(np.mean(finals))
    assert systems["ours"]["against_ours"] is None
    assert systems["random"]["against_ours"][-1]["mean"] == pytest.approx(
        systems["ours"]["quarters"][-1]["mean"] - np.mean(finals)
    )
    assert systems["optuna-search"]["epochs_to_goal"] <= crossing["budget_epochs"]
    assert systems["optuna-search"]["share_of_epochs_by_seed"]["reached"] == 3
    assert crossing["front_hypervolume"] > systems["ours"]["quarters"][-1]["mean"]
    write_json(tmp_path / "search.json", found)
    text = render({"own": found}, pictured=True)
    for system in systems.values():
        assert system["label"] in text
    assert f"{np.mean(finals):.3f}" in text
    assert draw(found, tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 10_000


def test_without_results_the_document_says_so(tmp_path: Path) -> None:
    found = collect(tmp_path, {"crossing": 3})
    assert "Nothing has been run" in render({"own": found}, pictured=False)
    assert not draw(found, tmp_path / "search.png")
