"""Runs that are kept in the repository come back as they were, and stale ones are left out."""

import json
from pathlib import Path

import pytest

from benchmarks.search import archive
from benchmarks.search.archive import pack, unpack
from benchmarks.search.runs import Job, load, obtain


def _job(seed: int, system: str = "random") -> Job:
    return Job(workload="parallel", system=system, seed=seed, full_lengths=3)


@pytest.fixture(autouse=True)
def _random_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "SLOW_SYSTEMS", ("random",))


def test_runs_come_back(tmp_path: Path) -> None:
    jobs = [_job(0), _job(1), _job(0, "optuna-search")]
    traces = [obtain(job, tmp_path / "here") for job in jobs]

    assert pack(jobs, tmp_path / "here", tmp_path / "runs.jsonl") == 2
    assert unpack(tmp_path / "runs.jsonl", tmp_path / "there") == 2

    for job, trace in zip(jobs[:2], traces, strict=False):
        again = load(job, tmp_path / "there")
        assert again is not None
        assert again.stopped_epochs == trace.stopped_epochs
        assert again.num_trials == trace.num_trials
        assert again.budget_epochs == trace.budget_epochs
        assert again.thinking_seconds == pytest.approx(trace.thinking_seconds, abs=1e-4)
        for one, other in zip(again.completions, trace.completions, strict=True):
            assert (one.number, one.epochs, one.feasible) == (
                other.number,
                other.epochs,
                other.feasible,
            )
            assert one.worth == pytest.approx(other.worth, rel=1e-7)
    assert load(jobs[2], tmp_path / "there") is None, "what is run again in seconds is not kept"


def test_what_is_there_stays(tmp_path: Path) -> None:
    trace = obtain(_job(0), tmp_path / "here")
    pack([_job(0)], tmp_path / "here", tmp_path / "runs.jsonl")

    assert unpack(tmp_path / "runs.jsonl", tmp_path / "here") == 0
    assert load(_job(0), tmp_path / "here") == trace


def test_an_archive_keeps_what_a_folder_lacks_and_drops_what_is_old(tmp_path: Path) -> None:
    file, here = tmp_path / "runs.jsonl", tmp_path / "here"
    for seed in (0, 1, 2):
        obtain(_job(seed), here)
    pack([_job(seed) for seed in (0, 1, 2)], here, file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["code"] = "of another day"
    lines[1]["job"]["system"] = "of another name"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert pack([], tmp_path / "empty", file) == 1
    (left,) = file.read_text().splitlines()
    assert json.loads(left)["job"]["seed"] == 2
    assert unpack(file, tmp_path / "there") == 1


def test_without_an_archive_there_is_nothing_to_unpack(tmp_path: Path) -> None:
    assert unpack(tmp_path / "none.jsonl", tmp_path / "there") == 0
