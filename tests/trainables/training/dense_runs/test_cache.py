"""The dense cache: trained once whoever asks, and the same to the bit as without it."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.training.runs import finish, same_weights
from trainables.data.catalogue import store_root
from trainables.report import delta_percent
from trainables.training.dense import BEST_STEP
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.export import load_model
from trainables.training.trial import TrialRun

# A dense trial of twelve steps and the pre-training of other methods are then the same.
TWELVE = {"training.pretrain_steps": 12}


@pytest.mark.parametrize("method", ["disparse-pretrained", "lth", "imp", "random-pretrained"])
def test_a_cached_pretraining_is_the_inline_one_to_the_bit(small_trial, cache, dense_steps, method):
    config = small_trial(method)
    inline = TrialRun(config, device="cpu")
    expected = finish(inline)
    assert dense_steps == []
    built = TrialRun(config, device="cpu", dense_cache=cache)
    assert finish(built) == expected
    assert dense_steps == list(range(config.training.pretrain_steps))
    hit = TrialRun(config, device="cpu", dense_cache=cache)
    assert finish(hit) == expected  # cost/train_flops_fraction, which counts it, among the rest
    assert len(dense_steps) == config.training.pretrain_steps
    assert same_weights(inline, built)
    assert same_weights(inline, hit)
    assert hit.summary([])["masks"] == inline.summary([])["masks"]


def test_a_dense_trial_is_replayed_to_the_bit(
    small_trial, cache, dense_steps, tmp_path, monkeypatch
):
    # Errors that only grow: the first report's weights are the best, and those are exported.
    errors = itertools.count(1.0)
    monkeypatch.setattr("trainables.training.checkpoints.best._error", lambda *_: next(errors))
    config = small_trial("dense")
    inline = TrialRun(config, device="cpu")
    expected = finish(inline)
    assert expected[-1].metrics["training/best_step"] == 4
    first = TrialRun(config, device="cpu", dense_cache=cache)
    dense_steps.clear()
    assert finish(first) == expected
    assert same_weights(inline, first)
    assert dense_steps == list(range(12))
    again = TrialRun(config, device="cpu", dense_cache=cache, latency=True)
    last = finish(again)[-1]
    assert last.metrics.keys() - expected[-1].metrics.keys() == {"cost/latency_ms"}
    assert len(dense_steps) == 12
    assert same_weights(inline, again)
    for run, name in ((inline, "a"), (again, "b")):
        run.export(tmp_path / name)
    left, right = (load_model(tmp_path / name).model.state_dict() for name in "ab")
    assert all(torch.equal(left[name], right[name]) for name in left)
    masks = [run.summary([])["masks"] for run in (inline, again)]
    assert masks[0] == masks[1]
    assert again.summary([])["timing"]["train_seconds"] > 0


@pytest.mark.parametrize("keeps_the_cache", [True, False])
def test_a_replay_resumes_with_and_without_its_cache(small_trial, cache, tmp_path, keeps_the_cache):
    config = small_trial("dense")
    expected = finish(TrialRun(config, device="cpu"))
    run = TrialRun(config, device="cpu", dense_cache=cache)
    for given in range(3):
        run.save(tmp_path / "checkpoint")
        resumed = TrialRun.resume(
            tmp_path / "checkpoint",
            config,
            device="cpu",
            dense_cache=cache if keeps_the_cache else None,
        )
        assert finish(resumed) == expected[given:]
        run.next_report()
    run.save(tmp_path / "checkpoint")
    done = TrialRun.resume(tmp_path / "checkpoint", config, device="cpu")
    assert done.next_report() is None
    assert same_weights(run, done)


@pytest.mark.timeout(150)  # torch is imported once more, on a machine that may be busy
def test_one_training_for_all_processes_though_the_first_is_killed(small_trial, tmp_path):
    """Four processes, one dense model; the one that builds it dies after six of twelve steps."""
    asked = [
        small_trial("disparse-pretrained", TWELVE),
        small_trial("disparse-pretrained", TWELVE, sparsity=0.5),
        small_trial("lth", {**TWELVE, "sparsity.rewind_fraction": 0.2}),
        small_trial("dense"),
    ]
    store_root(asked[0].data)
    expected = [[dataclasses.asdict(r) for r in finish(TrialRun(c, device="cpu"))] for c in asked]
    (tmp_path / "asked.json").write_text(json.dumps([config.to_dict() for config in asked]))
    script = Path(__file__).with_name("askers.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    codes = json.loads(done.stdout)
    assert sorted(codes) == [-9, 0, 0, 0], done.stderr
    for number, code in enumerate(codes):
        if code == 0:
            assert json.loads((tmp_path / f"{number}.json").read_text()) == expected[number]
    by_process: dict[str, list[int]] = {}
    for line in (tmp_path / "steps.log").read_text().splitlines():
        process, step = line.split()
        by_process.setdefault(process, []).append(int(step))
    # The killed one saved at its first report, after four steps; the next continued from there.
    assert list(by_process.values()) == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9, 10, 11]]
    # The killed trial itself, run again, finds all there is to find.
    number = codes.index(-9)
    run = TrialRun(asked[number], device="cpu", dense_cache=DenseCache(tmp_path / "cache", "cpu"))
    assert [dataclasses.asdict(report) for report in finish(run)] == expected[number]
    left = sorted(path.name for path in (tmp_path / "cache").glob("*/*"))
    assert left == ["lock", "run"]


def test_the_kept_weights_are_those_after_so_many_steps(small_trial, cache):
    config = small_trial("dense")
    kept = (0, 1, 2, 12)  # 0, 0.01, 0.05, 0.1 and 0.2 of 12, rounded, and the end
    cache.get(config)
    dense = cache.get(config, steps=(*kept, BEST_STEP))
    assert dense.weights.keys() == {*kept, BEST_STEP}
    run = TrialRun(config, device="cpu")
    for step in range(13):
        if step in (*kept, dense.best_step):
            stored = dense.weights[BEST_STEP if step not in kept else step]
            assert stored.keys() == run.model.state_dict().keys()
            assert all(torch.equal(v, stored[n]) for n, v in run.model.state_dict().items())
        if step < 12:
            run.loop.advance()


def test_every_report_compares_with_the_baseline_of_the_cache(small_trial, cache, dense_steps):
    dense = small_trial("dense")
    metrics = finish(TrialRun(dense, device="cpu"))[-1].metrics
    dense_steps.clear()
    config = small_trial("random")
    given = finish(TrialRun(config, device="cpu", baseline=metrics))
    for _ in range(2):
        run = TrialRun(config, device="cpu", dense_cache=cache, baseline_config=dense)
        assert finish(run) == given
    assert dense_steps == list(range(12))
    plain = {n.removeprefix("test/"): v for n, v in metrics.items() if n.startswith("test/")}
    ours = {n.removeprefix("test/"): v for n, v in given[-1].metrics.items() if n[:5] == "test/"}
    delta = ours.pop("multitask/delta_percent")
    assert delta == delta_percent(ours, plain)
    assert all("val/multitask/delta_percent" in report.metrics for report in given)
    itself = finish(TrialRun(dense, device="cpu", dense_cache=cache, baseline_config=dense))
    assert itself[-1].metrics["val/multitask/delta_percent"] == 0.0
    assert itself[-1].metrics["test/multitask/delta_percent"] == 0.0
    assert itself[0].metrics["val/multitask/delta_percent"] != 0.0
    assert dense_steps == list(range(12))


def test_progress_names_what_is_trained(small_trial, cache):
    phases: Counter[str] = Counter()

    def count(phase: str, done: int, total: int) -> None:
        phases[phase] += 1

    finish(
        TrialRun(
            small_trial("imp"),
            device="cpu",
            dense_cache=cache,
            baseline_config=small_trial("dense"),
            on_progress=count,
        )
    )
    assert phases == {"pre-training": 4, "training": 12, "dense baseline": 12}


def test_the_lines_of_a_trial_say_nothing_of_the_cache(small_trial, cache):
    """What `--json` holds is the same but for the times."""
    config = small_trial("imp")
    plain, cached = (
        TrialRun(config, device="cpu"),
        TrialRun(config, device="cpu", dense_cache=cache),
    )
    summaries: list[dict[str, Any]] = []
    for run in (plain, cached):
        finish(run)
        summaries.append(run.summary([]))
    for summary in summaries:
        assert summary["timing"].pop("train_seconds") > 0
        assert summary["timing"].pop("seconds_per_step") > 0
        summary["timing"].pop("total_seconds")
    assert summaries[0] == summaries[1]
