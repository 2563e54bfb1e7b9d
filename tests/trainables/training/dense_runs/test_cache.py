"""The dense cache: trained once whoever asks, the same to the bit, and no trial fails of it."""

import dataclasses
import itertools
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.data.catalogue import store_root
from trainables.errors import Failure
from trainables.report import delta_percent
from trainables.training.checkpoints.manifest import file_crc32
from trainables.training.dense_runs.cache import WAITING, DenseCache
from trainables.training.dense_runs.entry import Building, DenseRun
from trainables.training.dense_runs.key import dense_config, entry_key, normalised
from trainables.training.dense_runs.lease import Lease
from trainables.training.export import load_model
from trainables.training.loop import Diverged, TrainingLoop
from trainables.training.trial import Report, TrialRun

# A dense trial of twelve steps and the pre-training of other methods are then the same.
TWELVE = {"training.pretrain_steps": 12}


def finish(run: TrialRun) -> list[Report]:
    reports = []
    while (report := run.next_report()) is not None:
        reports.append(report)
    return reports


def same_weights(left: TrialRun, right: TrialRun) -> bool:
    pairs = zip(left.model.state_dict().items(), right.model.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.fixture
def dense_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of dense trials that this process trains."""
    steps: list[int] = []
    advance = TrainingLoop.advance

    def logged(self: TrainingLoop) -> None:
        if self.config.method == "dense":
            steps.append(self.step)
        advance(self)

    monkeypatch.setattr(TrainingLoop, "advance", logged)
    return steps


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> DenseCache:
    return DenseCache(tmp_path / "cache", "cpu", say=said.append)


def entry(cache: DenseCache) -> Path:
    (found,) = cache.directory.glob("*/run")
    return found


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
    # The killed one saved at its first report, after four steps; the next went on from there.
    assert list(by_process.values()) == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9, 10, 11]]
    # The killed trial itself, run again, finds all there is to find.
    number = codes.index(-9)
    run = TrialRun(asked[number], device="cpu", dense_cache=DenseCache(tmp_path / "cache", "cpu"))
    assert [dataclasses.asdict(report) for report in finish(run)] == expected[number]
    assert len(list((tmp_path / "cache").glob("*/building"))) == 0


@pytest.mark.parametrize("damage", ["none", "state", "weights", "reports"])
def test_a_dead_builders_work_is_continued_unless_damaged(small_trial, cache, dense_steps, damage):
    config = small_trial("dense")

    def dies(phase: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get(config, dies)
    (building,) = cache.directory.glob("*/building")
    match damage:
        case "state":
            path = building / "checkpoint" / "state.pt"
            path.write_bytes(path.read_bytes()[:-100])
        case "weights":
            (building / "run" / "1.pt").unlink()
        case "reports":
            (building / "reports.json").write_text("[]")
    dense_steps.clear()
    run = cache.get(config)
    assert dense_steps == list(range(4 if damage == "none" else 0, 12))
    assert list(run.reports) == finish(TrialRun(config, device="cpu"))
    assert run.stored.keys() == {0, 1, 2, 12} | {run.best_step}


def test_the_kept_weights_are_those_after_so_many_steps(small_trial, cache):
    config = small_trial("dense")
    dense = cache.get(config)
    run = TrialRun(config, device="cpu")
    for step in range(13):
        if step in (0, 1, 2, 12):  # 0, 0.01, 0.05, 0.1 and 0.2 of 12, rounded, and the end
            kept = dense.weights(step)
            assert kept.keys() == run.model.state_dict().keys()
            assert all(torch.equal(v, kept[n]) for n, v in run.model.state_dict().items())
        if step < 12:
            run.loop.advance()


@pytest.mark.parametrize(
    "overrides",
    [
        {"seed": 1},
        {"metrics": "published"},
        {"data.num_train": 20},
        {"data.split_seed": 1},
        {"data.mirror": False},
        {"model.width": 5},
        {"optimiser.learning_rate": 1e-4},
        {"optimiser.name": "sgd"},
        {"training.pretrain_steps": 5},
        {"training.batch_size": 2},
        {"training.loss_weights.depth": 2.0},
        {"training.precision": "bf16"},
        {"data.tasks": "depth,segmentation"},
    ],
)
def test_different_dense_trials_have_different_entries(small_trial, overrides, tmp_path):
    one, other = small_trial("imp"), small_trial("imp").replace(overrides)
    if "data.num_train" in overrides:
        other = other.replace({"data.root": str(tmp_path)})
    keys = {entry_key(dense_config(config), "cpu") for config in (one, other)}
    assert len(keys) == 2


def test_what_a_dense_trial_does_not_read_does_not_part_them(small_trial, tmp_path):
    one = small_trial("imp")
    flat = one.flat()
    unread = {n: v for n, v in flat.items() if n.startswith(("sparsity.", "regrowth."))}
    fixed = normalised(small_trial("dense")).flat()
    others = [
        small_trial("lth", {"training.pretrain_steps": 4}, sparsity=0.5),
        small_trial("random-pretrained", {"sparsity.arbiter": "majority"}),
        small_trial("disparse-pretrained", {"regrowth.fraction": 0.1, "training.steps": 9}),
        one.replace({"training.precision": "fp32", "optimiser.momentum": 0.5}),
    ]
    moved = tmp_path / "moved"
    shutil.copytree(store_root(one.data), moved)
    others.append(one.replace({"data.root": str(moved)}))
    keys = {entry_key(dense_config(config), "cpu") for config in (one, *others)}
    assert len(keys) == 1
    # A setting that is added to these groups has to be normalised too: whatever it was before.
    odd = {"sparsity.saliency_batches": 9, "regrowth.interval_steps": 9, "sparsity.score": "taylor"}
    assert normalised(small_trial("dense", odd)).flat() == fixed
    from trainables.training.dense_runs.key import _UNREAD

    assert _UNREAD.keys() == unread.keys() | {"training.pretrain_steps"}


def test_a_dense_trial_and_an_equal_pretraining_share_an_entry(small_trial):
    dense = normalised(small_trial("dense"))
    assert dense_config(small_trial("imp", TWELVE)) == dense


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "describe"])
def test_a_damaged_entry_is_set_aside_and_trained_again(
    small_trial, cache, said, dense_steps, damage
):
    config = small_trial("dense")
    before = cache.get(config)
    expected = before.weights(12)
    path = entry(cache) / "12.pt"
    match damage:
        case "flip":
            flip(path)
        case "truncate":
            path.write_bytes(path.read_bytes()[:-1])
        case "remove":
            path.unlink()
        case "manifest":
            (entry(cache) / "manifest.json").write_text("{")
        case "describe":
            (entry(cache) / "run.json").write_text("{}")
    again = cache.get(config)
    assert len(dense_steps) == (12 if damage == "flip" else 24)  # no weights have been read yet
    assert again.reports == before.reports
    assert all(torch.equal(value, expected[name]) for name, value in again.weights(12).items())
    assert len(dense_steps) == 24
    assert [line for line in said if "is damaged" in line] == said
    assert len(said) == 1
    assert (entry(cache).parent / "damaged").is_dir()
    cache.get(config)
    assert len(dense_steps) == 24


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_only_the_files_that_are_asked_for_are_summed(
    small_trial, cache, said, dense_steps, monkeypatch
):
    config = small_trial("dense")
    cache.get(config)
    summed: list[str] = []

    def logged(path: Path) -> int:
        summed.append(path.name)
        return file_crc32(path)

    for module in ("manifest", "dense_entry"):
        monkeypatch.setattr(f"trainables.training.{module}.file_crc32", logged)
    flip(entry(cache) / "1.pt")
    found = cache.get(config)
    assert summed == ["run.json"]
    found.weights(12)
    assert summed == ["run.json", "12.pt"]
    from_the_start = small_trial("lth", {**TWELVE, "sparsity.rewind_fraction": 0.0})
    run = TrialRun(from_the_start, device="cpu", dense_cache=cache)
    finish(run)
    assert sorted(summed[2:]) == ["0.pt", "12.pt", "run.json"]
    assert len(dense_steps) == 12
    assert said == []


def test_weights_found_damaged_by_two_are_trained_again_once(small_trial, cache, said, dense_steps):
    config = small_trial("dense")
    expected = cache.get(config).weights(12)
    holders = [cache.get(config), cache.get(config)]
    flip(entry(cache) / "12.pt")
    for run in holders:
        assert all(torch.equal(v, expected[n]) for n, v in run.weights(12).items())
        assert len(dense_steps) == 24
    assert len(said) == 1
    # A disk that damages what it is given costs a training, not the trial.
    again = cache.get(config)
    flip(entry(cache) / "12.pt")
    publish = Building.publish

    def damaging(*arguments: Any) -> DenseRun:
        run = publish(*arguments)
        flip(entry(cache) / "12.pt")
        return run

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Building, "publish", damaging)
        assert all(torch.equal(v, expected[n]) for n, v in again.weights(12).items())
    assert len(dense_steps) == 48


def test_a_trial_whose_dense_weights_are_damaged_gives_what_it_would_have(
    small_trial, cache, dense_steps
):
    config = small_trial("imp", TWELVE)
    expected = finish(TrialRun(config, device="cpu", dense_cache=cache))
    flip(entry(cache) / "12.pt")
    assert finish(TrialRun(config, device="cpu", dense_cache=cache)) == expected
    assert len(dense_steps) == 24


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(small_trial, said, tmp_path):
    (tmp_path / "file").write_text("")
    cache = DenseCache(tmp_path / "file" / "cache", "cpu", say=said.append)
    for method in ("lth", "dense"):
        config = small_trial(method)
        expected = finish(TrialRun(config, device="cpu"))
        assert finish(TrialRun(config, device="cpu", dense_cache=cache)) == expected
    assert len(said) == 1
    assert "cannot be used" in said[0]
    assert "Not a directory" in said[0]


def test_a_read_only_folder_still_gives_what_it_holds(
    small_trial, cache, said, dense_steps, monkeypatch
):
    config = small_trial("dense")
    cache.get(config)

    def refused(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("trainables.training.dense_runs.lease.os.open", refused)
    cache.get(config)
    assert len(dense_steps) == 12
    assert said == []
    cache.get(small_trial("dense", seed=1))
    assert len(dense_steps) == 24
    assert len(said) == 1
    assert "Read-only" in said[0]


def test_a_full_disk_costs_the_cache_alone(small_trial, cache, said):
    """Files may not exceed 8 KiB: the lease fits, weights do not, as where the disk is full."""
    config = small_trial("lth")
    expected = finish(TrialRun(config, device="cpu"))
    run = TrialRun(config, device="cpu", dense_cache=cache)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        reports = finish(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert reports == expected
    assert len(said) == 1
    assert "cannot be used" in said[0]
    assert [path.name for path in cache.directory.glob("*/*")] == ["lease"]


def test_a_folder_deleted_under_a_builder_costs_the_cache_alone(small_trial, cache, said):
    config = small_trial("lth", {"training.pretrain_steps": 4})
    expected = finish(TrialRun(config, device="cpu"))

    def delete(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("pre-training", 3) and cache.directory.exists():
            shutil.rmtree(cache.directory)

    run = TrialRun(config, device="cpu", dense_cache=cache, on_progress=delete)
    assert finish(run) == expected
    assert list(cache.directory.glob("*/run")) == []
    assert len(said) == 1


DIVERGING = {
    "optimiser.name": "sgd",
    "optimiser.learning_rate": 1e30,
    "optimiser.clip_norm": None,
}


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
    assert list(cache.directory.glob("*/run")) == []
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


def test_whoever_waits_for_a_stopped_builder_says_for_whom_once(
    small_trial, cache, said, monkeypatch
):
    """The builder holds its lease and gets no further, as a stopped process does."""
    monkeypatch.setattr("trainables.training.dense_runs.cache.POLL_SECONDS", 0.01)
    monkeypatch.setattr("trainables.training.dense_runs.cache.SAY_AFTER_SECONDS", 0.2)
    config = small_trial("dense")
    folder = cache.directory / entry_key(normalised(config), "cpu")
    folder.mkdir(parents=True)
    builder = Lease(folder / "lease")
    assert builder.acquire()
    polls = 0

    def wait(phase: str, done: int, total: int) -> None:
        nonlocal polls
        if phase == WAITING:
            polls += 1
            assert said == [] or polls > 10
        if polls == 60:
            builder.release()

    assert cache.get(config, wait).steps == 12
    assert len(said) == 1
    assert (
        f"process {os.getpid()} on host {platform.node()} trains: still at step 0 of 12" in said[0]
    )


def test_memory_that_runs_out_in_pretraining_is_the_trials_failure(small_trial, cache):
    def exhausted(phase: str, done: int, total: int) -> None:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    run = TrialRun(small_trial("imp"), device="cpu", dense_cache=cache, on_progress=exhausted)
    with pytest.raises(Failure, match=r"^out of memory .*9 GiB") as failure:
        run.next_report()
    assert str(failure.value).count("out of memory") == 1
    assert list(cache.directory.glob("*/run")) == []


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


def test_the_lines_of_a_trial_say_nothing_of_the_cache(small_trial, cache, tmp_path):
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
