"""Waiting for a builder, and builders whose training fails."""

import threading

import pytest
import torch

from tests.trainables.training.runs import finish
from trainables.errors import Failure
from trainables.training.dense_runs import cache as cache_module
from trainables.training.dense_runs.cache import WAITING, DenseCache
from trainables.training.loop.loop import Diverged
from trainables.training.trial import TrialRun

DIVERGING = {
    "optimiser.name": "sgd",
    "optimiser.learning_rate": 1e30,
    "optimiser.clip_norm": None,
}


def test_whoever_waits_sees_how_far_the_builder_is_and_gets_its_run(
    small_trial, cache, dense_steps, monkeypatch
):
    monkeypatch.setattr(cache_module, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(cache_module, "POLL_SECONDS", 0.01)
    config = small_trial("dense")
    seen, found = [], []
    waited = threading.Event()

    def wait(phase: str, done: int, total: int) -> None:
        if phase == WAITING:
            seen.append((done, total))
            if done == 3:
                waited.set()

    other = threading.Thread(
        target=lambda: found.append(DenseCache(cache.directory, "cpu").get(config, wait))
    )

    def hold(phase: str, done: int, total: int) -> None:
        if done == 1:
            other.start()
        if done == 3:
            assert waited.wait(30)

    run = cache.get(config, hold)
    other.join(30)
    assert found[0].reports == run.reports
    assert dense_steps == list(range(12))
    assert (3, 12) in seen
    assert all(total == 12 for _, total in seen)


def test_whoever_waits_for_a_training_that_fails_gets_the_failure(small_trial, cache, dense_steps):
    config = small_trial("dense", DIVERGING)
    waiting, failures = threading.Event(), []

    def wait(phase: str, done: int, total: int) -> None:
        if phase == WAITING:
            assert (done, total) in ((0, 12), (1, 12))
            waiting.set()

    def ask() -> None:
        try:
            DenseCache(cache.directory, "cpu").get(config, wait)
        except Failure as failure:
            failures.append(str(failure))

    other = threading.Thread(target=ask)

    def hold(phase: str, done: int, total: int) -> None:
        if done == 1:
            other.start()
            assert waiting.wait(30)

    with pytest.raises(Failure, match="the training loss is") as failure:
        cache.get(config, hold)
    other.join(30)
    assert failures == [str(failure.value)]
    trained = len(dense_steps)
    names = sorted(path.name for path in cache.directory.glob("*/*"))
    assert names == ["failure.json", "lock"]
    # It would diverge again: who asks later is told at once, in another process as well.
    for later in (cache, DenseCache(cache.directory, "cpu")):
        with pytest.raises(Diverged) as told:
            later.get(config)
        assert str(told.value) == str(failure.value)
    assert len(dense_steps) == trained
    with pytest.raises(Diverged):  # nothing is known of another trial
        cache.get(config.replace({"seed": 1}))
    assert len(dense_steps) > trained


def test_memory_that_runs_out_for_the_builder_is_not_the_waiters_failure(
    small_trial, cache, dense_steps
):
    config = small_trial("dense")
    waiting, found = threading.Event(), []

    def wait(phase: str, done: int, total: int) -> None:
        if phase == WAITING:
            waiting.set()

    other = threading.Thread(
        target=lambda: found.append(DenseCache(cache.directory, "cpu").get(config, wait))
    )

    def hold(phase: str, done: int, total: int) -> None:
        if done == 2:
            other.start()
            assert waiting.wait(30)
            raise Failure("out of memory on cpu (no details)")

    with pytest.raises(Failure, match="out of memory"):
        cache.get(config, hold)
    other.join(30)
    assert dense_steps == [0, 1, *range(12)]
    assert cache.get(config).reports == found[0].reports
    assert len(dense_steps) == 14


def test_memory_that_runs_out_in_pretraining_is_the_trials_failure(small_trial, cache):
    def exhausted(phase: str, done: int, total: int) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    run = TrialRun(small_trial("imp"), device="cpu", dense_cache=cache, on_progress=exhausted)
    with pytest.raises(Failure, match=r"^out of memory .*9 GiB") as failure:
        run.next_report()
    assert str(failure.value).count("out of memory") == 1
    assert list(cache.directory.glob("*/run")) == []


def test_a_baseline_that_fails_costs_the_comparison_alone(small_trial, cache, said):
    config = small_trial("random")
    expected = finish(TrialRun(config, device="cpu"))
    baseline = small_trial("dense", DIVERGING)
    run = TrialRun(config, device="cpu", dense_cache=cache, baseline_config=baseline)
    assert finish(run) == expected
    assert len(said) == 1
    assert said[0].startswith("no multitask/delta_percent: the dense baseline failed")
    with pytest.raises(ValueError, match="is trained in a `dense_cache`"):
        TrialRun(config, device="cpu", baseline_config=baseline)
