"""A run on one of two tasks that differ in their fidelity alone tells what the other's would be."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.search.runs import Job, load, obtain, run, save
from benchmarks.search.systems import catalogue
from benchmarks.search.twins import twin_of
from benchmarks.search.workloads import yahpo
from tests.benchmarks.search.yahpo_data import needs_yahpo

pytestmark = needs_yahpo
TWINS = ("rbv2_xgboost-12-repl", "rbv2_xgboost-12-trainsize")
SYSTEM = "nsga-ii"  # as quick as it is deaf to reports before the last


def test_which_tasks_are_twins() -> None:
    found = {name: twin_of(task) for name, task in yahpo.tasks().items()}
    one, other = TWINS
    assert {name: twin for name, twin in found.items() if twin} == {one: other, other: one}


@pytest.fixture
def _whole(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(catalogue.SYSTEMS[SYSTEM], whole_trials=True)
    monkeypatch.setitem(catalogue.SYSTEMS, SYSTEM, entry)


@pytest.mark.usefixtures("_whole")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("named", TWINS)
def test_a_twin_tells_what_a_run_finds(named: str, seed: int, tmp_path: Path) -> None:
    (other,) = set(TWINS) - {named}
    job = Job(workload=named, system=SYSTEM, seed=seed, full_lengths=6)
    twin = replace(job, workload=other)
    kept = obtain(twin, tmp_path)
    told = obtain(job, tmp_path)
    assert told == run(job)
    assert told.completions != kept.completions  # the epochs are others
    assert told.thinking_seconds == kept.thinking_seconds
    assert load(job, tmp_path) == told


@pytest.mark.usefixtures("_whole")
def test_what_a_twin_cannot_tell_is_run(tmp_path: Path) -> None:
    job = Job(workload=TWINS[0], system=SYSTEM, seed=0, full_lengths=6)
    twin = replace(job, workload=TWINS[1])
    kept = run(twin)
    cut = replace(kept, completions=kept.completions[:-1])
    save(twin, twin.code, cut, tmp_path)
    assert obtain(job, tmp_path) == run(job)


def test_a_search_that_may_stop_trials_is_run(tmp_path: Path) -> None:
    job = Job(workload=TWINS[0], system="ours", seed=0, full_lengths=3)
    kept = obtain(replace(job, workload=TWINS[1]), tmp_path)
    told = obtain(job, tmp_path)
    assert told.thinking_seconds != kept.thinking_seconds
