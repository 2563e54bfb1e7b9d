"""Runs of the benchmark: one that fails says why and holds up no other."""

from pathlib import Path

from benchmarks.search.runs import Job, load, obtain_quietly


def test_a_run_that_fails_is_told_and_not_raised(tmp_path: Path) -> None:
    empty = Job(workload="parallel", system="random", seed=0, full_lengths=0)
    line, has_failed = obtain_quietly((empty, tmp_path))
    assert has_failed
    assert line.startswith("parallel random seed 0 failed: a simulation needs an epoch")
    assert load(empty, tmp_path) is None


def test_a_run_is_told_with_its_counts(tmp_path: Path) -> None:
    job = Job(workload="parallel", system="random", seed=0, full_lengths=2)
    line, has_failed = obtain_quietly((job, tmp_path))
    assert not has_failed
    trace = load(job, tmp_path)
    assert trace is not None
    counts = f"{trace.num_trials} trials, {len(trace.completions)} complete"
    assert line.startswith(f"parallel random seed 0: {counts}, ")
