"""What is kept of YAHPO's tasks: shares of the best known, pooled by pairs, and the document."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.statistics.indicators import hypervolume
from benchmarks.search import runs
from benchmarks.search.__main__ import app
from benchmarks.search.results.document import render
from benchmarks.search.results.findings import collect, together
from benchmarks.search.results.scores import trajectory
from benchmarks.search.runs import Job, load, obtain, scaled_workload, seeds_of
from tests.benchmarks.search.yahpo_data import needs_yahpo

TASKS = ("iaml_glmnet-1489-trainsize", "rbv2_rpart-1476-trainsize")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ours and random on two tasks; random lacks the last seed of the second."""
    monkeypatch.setattr(runs, "YAHPO_LENGTHS", 6)
    folder = tmp_path / "results"
    for task in TASKS:
        for seed in seeds_of(task, 3):
            obtain(Job.of(task, "ours", seed), folder)
            if (task, seed) != (TASKS[1], seeds_of(task, 3)[-1]):
                obtain(Job.of(task, "random", seed), folder)
    return folder


def share(task: str, system: str, seed: int, folder: Path) -> float:
    trace = load(Job.of(task, system, seed), folder)
    assert trace is not None
    workload = scaled_workload(task)
    best = hypervolume(workload.front(), workload.normalisation)
    return trajectory(trace, workload.normalisation).final / best


@needs_yahpo
def test_pairs_are_pooled_as_shares_of_the_best_that_is_known(kept: Path) -> None:
    found = collect(kept, dict.fromkeys(TASKS, 3))
    assert [w["name"] for w in found["workloads"]] == list(TASKS)
    pooled: dict[str, Any] = {row["name"]: row for row in found["pooled"]}
    pairs = [(TASKS[0], s) for s in seeds_of(TASKS[0], 3)]
    pairs += [(TASKS[1], s) for s in seeds_of(TASKS[1], 3)[:2]]
    theirs = [share(t, "random", s, kept) for t, s in pairs]
    ours = [share(t, "ours", s, kept) for t, s in pairs]
    assert pooled["random"]["quarters"][-1] == pytest.approx(np.mean(theirs))
    assert pooled["random"]["ours"][-1] == pytest.approx(np.mean(ours))
    against = pooled["random"]["against_ours"][-1]
    assert against["pairs"] == 5
    assert against["mean"] == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert against["p_holm"] == against["p"]  # one peer
    assert pooled["ours"]["against_ours"] is None
    for workload in found["workloads"]:
        for system in workload["systems"]:
            assert 0.0 <= system["thinking_seconds"]["mean"] < 10.0


@needs_yahpo
def test_the_document_has_the_tasks_and_says_what_was_not_run(kept: Path) -> None:
    found = collect(kept, dict.fromkeys(TASKS, 3))
    nothing = collect(kept, {})
    text = render({"own": nothing, "yahpo": found, "yahpo-long": nothing}, pictured=False)
    for task in TASKS:
        assert f"### {task}" in text
    assert "That has not been run yet" in text
    assert "Workloads of our own" not in text
    (absent,) = [line for line in text.splitlines() if line.startswith("Not run yet:")]
    assert "BoTorch qLogNEHVI" in absent
    assert "random, " not in absent
    final = {s["name"]: s for s in found["workloads"][0]["systems"]}["random"]["quarters"][-1]
    assert f"{final['mean']:.3f}" in text


@needs_yahpo
def test_what_is_not_run_again_stays_in_the_document(kept: Path, tmp_path: Path) -> None:
    """The command writes YAHPO's part from results; of the others it keeps what their file says."""
    out = tmp_path / "docs"
    out.mkdir()
    earlier = Path(__file__).resolve().parents[3] / "docs" / "search.json"
    (out / "search.json").write_bytes(earlier.read_bytes())
    asked = ["--write-only", "--yahpo-seeds", "3", "--storage", str(kept), "--out", str(out)]
    result = CliRunner().invoke(app, [*asked, "--quiet"])
    assert result.exit_code == 0, result.output
    assert (out / "search.json").read_bytes() == earlier.read_bytes()
    text = (out / "search.md").read_text()
    assert f"### {TASKS[1]}" in text
    for workload in json.loads(earlier.read_text())["workloads"]:
        assert workload["title"] in text
    assert {
        w["name"] for w in json.loads((out / "search-yahpo.json").read_text())["workloads"]
    } == {*TASKS}


def _found(*names: str, by: str, systems: Sequence[str] = ("ours", "random")) -> dict[str, Any]:
    told = [{"name": system} for system in systems]
    return {"workloads": [{"name": n, "by": by, "systems": told} for n in names], "pooled": [by]}


def test_a_workload_that_was_run_again_takes_the_place_of_what_was_known() -> None:
    known, kept = _found("parallel", "six", by="then"), _found("six", "scenes", by="now")

    found = together(kept, known, pooled=False)

    assert [(w["name"], w["by"]) for w in found["workloads"]] == [
        ("parallel", "then"),
        ("six", "now"),
        ("scenes", "now"),
    ]
    assert together(_found(by="now"), known, pooled=False) is known
    poorer = _found("parallel", "six", by="now", systems=("ours",))
    assert together(poorer, known, pooled=False) is known, "it lacks a search that was there"
    assert together(kept, None, pooled=False) is kept


def test_a_pool_waits_until_all_of_it_was_run_again() -> None:
    known = _found("lcbench", "glmnet", by="then")

    assert together(_found("lcbench", by="now"), known, pooled=True) is known
    whole = _found("glmnet", "lcbench", by="now")
    assert together(whole, known, pooled=True) is whole
