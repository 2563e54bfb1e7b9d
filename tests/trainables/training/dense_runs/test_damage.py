"""Damaged files, killed builders, folders that cannot be used: no trial fails because of them."""

import resource
import shutil
from pathlib import Path

import pytest
import torch

from tests.trainables.training.runs import finish
from trainables.training.checkpoints.manifest import file_crc32
from trainables.training.dense_runs import cache as cache_module
from trainables.training.dense_runs.cache import DenseCache
from trainables.training.dense_runs.entry import write_run
from trainables.training.trial import TrialRun

TWELVE = {"training.pretrain_steps": 12}


def entry(cache: DenseCache) -> Path:
    """The one finished run in the cache."""
    (found,) = cache.directory.glob("*/run")
    return found


def flip(path: Path) -> None:
    """Change one bit in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest", "describe"])
def test_a_damaged_entry_is_trained_again(small_trial, cache, said, dense_steps, damage):
    config = small_trial("dense")
    before = cache.get(config)
    expected = before.weights[12]
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
            flip(entry(cache) / "run.json")
    for _ in range(2):
        again = cache.get(config, steps=(12,))
        assert again.reports == before.reports
        assert all(torch.equal(value, expected[name]) for name, value in again.weights[12].items())
        assert len(dense_steps) == 24
    assert len(said) == 1
    assert "is damaged" in said[0]


def test_only_the_files_that_are_asked_for_are_read(
    small_trial, cache, said, dense_steps, monkeypatch
):
    """Weights are large: whoever needs the reports alone reads none, nor finds damage there."""
    config = small_trial("dense")
    cache.get(config)
    read: list[str] = []

    def logged(path: Path) -> int:
        read.append(path.name)
        return file_crc32(path)

    monkeypatch.setattr("trainables.training.dense_runs.entry.file_crc32", logged)
    flip(entry(cache) / "1.pt")
    cache.get(config)
    assert read == ["run.json"]
    from_the_start = small_trial("lth", {**TWELVE, "sparsity.rewind_fraction": 0.0})
    finish(TrialRun(from_the_start, device="cpu", dense_cache=cache))
    assert sorted(read[1:]) == ["0.pt", "12.pt", "run.json"]
    assert len(dense_steps) == 12
    assert said == []


def test_a_disk_that_damages_what_it_is_given_costs_a_training_and_no_trial(
    small_trial, cache, dense_steps, monkeypatch
):
    def damaging(directory: Path, *arguments: object) -> None:
        write_run(directory, *arguments)
        if directory.name == "run":
            flip(directory / "12.pt")

    monkeypatch.setattr(cache_module.entry, "write_run", damaging)
    config = small_trial("imp", TWELVE)
    expected = finish(TrialRun(config, device="cpu"))
    for asked in (1, 2, 3):
        assert finish(TrialRun(config, device="cpu", dense_cache=cache)) == expected
        assert len(dense_steps) == 12 * asked


@pytest.mark.parametrize("damage", ["none", "state", "weights", "reports", "manifest"])
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
            flip(building / "checkpoint" / "state.pt")
        case "weights":
            (building / "1.pt").unlink()
        case "reports":
            flip(building / "run.json")
        case "manifest":
            (building / "manifest.json").unlink()
    dense_steps.clear()
    # Another method's pre-training is the same trial, whatever else its settings are.
    other = small_trial("imp", TWELVE, sparsity=0.5)
    expected = finish(TrialRun(other, device="cpu"))
    assert finish(TrialRun(other, device="cpu", dense_cache=cache)) == expected
    assert dense_steps == list(range(4 if damage == "none" else 0, 12))
    assert list(cache.get(config).reports) == finish(TrialRun(config, device="cpu"))
    assert not building.exists()


@pytest.mark.parametrize("moved", ["building", ".building.partial"])
def test_a_builder_killed_while_it_replaces_its_checkpoint_is_continued(
    small_trial, cache, dense_steps, monkeypatch, moved
):
    """Twice, at its second checkpoint: before the old one is set aside, and before the new one
    is in its place."""
    config = small_trial("dense")
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == moved and len(dense_steps) == 8:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.get(config)
        assert dense_steps == list(range(8))
        dense_steps[:4] = []
        with pytest.raises(KeyboardInterrupt):
            cache.get(config)
        assert dense_steps == [4, 5, 6, 7] * 2
    dense_steps.clear()
    assert list(cache.get(config).reports) == finish(TrialRun(config, device="cpu"))
    assert dense_steps[:8] == list(range(4, 12))
    (folder,) = cache.directory.iterdir()
    assert {path.name for path in folder.iterdir()} == {"run", "lock"}


def test_a_builder_killed_between_two_reports_is_continued_at_its_last_checkpoint(
    small_trial, cache, dense_steps, monkeypatch
):
    monkeypatch.setattr(cache_module, "CHECKPOINT_SECONDS", 0.0)
    config = small_trial("dense")

    def dies(phase: str, done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get(config, dies)
    dense_steps.clear()
    assert list(cache.get(config).reports) == finish(TrialRun(config, device="cpu"))
    assert dense_steps[:5] == [7, 8, 9, 10, 11]


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

    def refused(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache_module.FileLock, "acquire", refused)
    cache.get(config, steps=(12,))
    assert len(dense_steps) == 12
    assert said == []
    cache.get(small_trial("dense", seed=1))
    assert len(dense_steps) == 24
    assert len(said) == 1
    assert "Read-only" in said[0]


def test_a_full_disk_costs_the_cache_alone(small_trial, cache, said, dense_steps):
    """Files may not exceed 8 KiB: the lock fits, weights do not, as where the disk is full."""
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
    assert dense_steps == list(range(config.training.pretrain_steps))
    assert len(said) == 1
    assert "cannot be used" in said[0]
    assert [path.name for path in cache.directory.glob("*/*")] == ["lock"]


def test_a_folder_deleted_under_a_builder_costs_nothing(small_trial, cache, dense_steps):
    config = small_trial("lth", {"training.pretrain_steps": 4})
    expected = finish(TrialRun(config, device="cpu"))

    def delete(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("pre-training", 3) and cache.directory.exists():
            shutil.rmtree(cache.directory)

    run = TrialRun(config, device="cpu", dense_cache=cache, on_progress=delete)
    assert finish(run) == expected
    assert dense_steps == [0, 1, 2, 3]
    assert finish(TrialRun(config, device="cpu", dense_cache=cache)) == expected
    assert dense_steps == [0, 1, 2, 3]
