"""`python -m trainables`: results, and one clear message for every mistake a user can make."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainables.__main__ import app
from trainables.sparsity.catalogue import METHODS
from trainables.terminal.command_line import run_command_line

SMALL = [
    "--dataset", "scenes", "--preset", "tiny", "--steps", "6", "--quiet",
    "--set", "data.size=32x32", "--set", "data.crop=32x32", "--set", "data.num_train=24",
    "--set", "data.num_test=8", "--set", "training.batch_size=4",
    "--set", "sparsity.saliency_batches=2", "--set", "training.num_reports=2",
    "--set", "model.blocks=1,1", "--set", "model.strides=1,2", "--set", "model.dilations=1,2",
    "--set", "model.head_dilations=1,2",
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("scenes") / "store")


def run(*arguments: str) -> int:
    """The exit code, in this process."""
    with pytest.raises(SystemExit) as stop:
        run_command_line(lambda: app([str(argument) for argument in arguments]))
    code = stop.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize("method", METHODS)
def test_the_result_names_what_the_contract_names(method: str, scenes: str, tmp_path: Path) -> None:
    results = []
    for attempt in ("first.json", "second.json"):
        path = tmp_path / attempt
        assert (
            run("train", method, *SMALL, "--data-root", scenes, "--sparsity", "0.9", "--json", path)
            == 0
        )
        results.append(json.loads(path.read_text()))
    result = results[0]
    assert set(result) == {"command", "config", "seed", "metrics", "masks", "timing", "versions"}
    assert result["metrics"] == results[1]["metrics"]
    masks = result["masks"]
    target = 0.9 if METHODS[method].sparse else 0.0
    if result["config"]["sparsity"]["structure"] == "weight":
        assert masks["kept"] == round((1 - target) * masks["total"])
    else:  # channels: a budget of parameters, met from below
        assert 0 < masks["kept"] <= 0.12 * masks["total"]
    assert ("agreement" in masks) == method.startswith("disparse")


def test_latency_is_measured_when_asked_for(scenes: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    assert run("train", "random", *SMALL, "--data-root", scenes, "--latency", "--json", path) == 0
    assert json.loads(path.read_text())["metrics"]["cost/latency_ms"] > 0


MISTAKES = {
    "method": (["train", "disparse"], "unknown method 'disparse'"),
    "dataset": (["train", "snip", "--dataset", "scene"], "Did you mean 'scenes'"),
    "preset": (["train", "snip", "--preset", "big"], "valid: paper, small, tiny"),
    "task": (["train", "snip", "--tasks", "depht"], "Did you mean 'depth'"),
    "no task": (["train", "snip", "--tasks", ","], "must name the tasks"),
    "metric definition": (["train", "snip", "--metrics", "mine"], "valid: corrected, published"),
    "sparsity 1": (["train", "snip", "--sparsity", "1.0"], "[0, 1), got 1.0"),
    "sparsity 90": (["train", "snip", "--sparsity", "90"], "[0, 1), got 90"),
    "sparsity's form": (
        ["train", "snip", "--sparsity", "much"],
        "`--sparsity` must be a share of one, such as 0.9 or 90%, got 'much'",
    ),
    "sparsity below 0": (["train", "snip", "--sparsity", "-0.1"], "[0, 1), got -0.1"),
    "sparsity nan": (["train", "snip", "--sparsity", "nan"], "[0, 1), got nan"),
    "setting": (["train", "snip", "--set", "optimiser.rate=1"], "unknown setting"),
    "setting's form": (["train", "snip", "--set", "seed"], "key=value"),
    "no root": (["train", "snip", "--dataset", "nyu-v2"], "convert nyu-v2"),
    "missing root": (
        ["train", "snip", "--dataset", "nyu-v2", "--data-root", "/no/such/folder"],
        "must exist, got /no/such/folder",
    ),
    "resume nowhere": (["train", "snip", "--resume"], "name its folder"),
    "out below a file": (["train", "snip", "--out", "pyproject.toml/x"], "must be writable"),
    "baseline": (["train", "snip", "--baseline", "/no/file.json"], "--json file of a dense run"),
    "json is a folder": (["train", "snip", "--json", "tests"], "must be a file, got the folder"),
    "out is an address": (
        ["train", "snip", "--out", "gs://bucket/run"],
        "`--out` must be a local folder, got the address 'gs:/bucket/run'",
    ),
    "json is an address": (["train", "snip", "--json", "https://host/a.json"], "must be a local"),
    "store is an address": (
        ["convert", "nyu-v2", ".", "s3://bucket/store"],
        "must write to a local folder, got s3://bucket/store",
    ),
    "json below a file": (["train", "snip", "--json", "pyproject.toml/x"], "`--json` must be writ"),
    "json nowhere": (["train", "snip", "--json", "/proc/x/a.json"], "`--json` must be writable"),
    "dense by setting": (["train", "dense", "--set", "sparsity.target=0.9"], "keeps every weight"),
    "two steps": (
        ["train", "snip", "--steps", "6", "--set", "training.steps=1e2"],
        "got 6 and 1e2",
    ),
    "no pre-training": (
        ["train", "disparse-pretrained", "--set", "training.pretrain_steps=0"],
        "must be at least 1 for disparse-pretrained",
    ),
    "no stride": (["train", "snip", "--set", "model.strides=0,0,0,0"], "must be at least 1"),
    "root is a file": (["train", "snip", "--data-root", "/etc/passwd"], "must be a folder, got"),
    "superscript size": (
        ["convert", "nyu-v2", ".", "/tmp/never", "--size", "\u00b2x\u00b2"],
        "must be HEIGHTxWIDTH, got '\u00b2x\u00b2'",
    ),
    "kind": (["list", "method"], "Did you mean 'methods'"),
    "size": (["convert", "nyu-v2", ".", "/tmp/never", "--size", "120"], "HEIGHTxWIDTH, got '120'"),
    "no source": (["convert", "nyu-v2", "/no/such", "/tmp/never"], "must exist, got /no/such"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_exit_2_and_one_message(
    mistake: str, capsys: pytest.CaptureFixture[str], scenes: str
) -> None:
    arguments, part = MISTAKES[mistake]
    assert run(*arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert part in said
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1


METRICS = {"val/depth/within_1_25": 0.5, "test/depth/within_1_25": 0.5}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("no JSON", "JSONDecodeError"),
        ("[1]", "TypeError"),
        ('{"metric": {}}', "KeyError"),
        ('{"metrics": 5}', "AttributeError"),
        ('{"metrics": {"test/depth/within_1_25": "best"}}', "could not convert"),
        ('{"metrics": {"test/depth/within_1_25": [1]}}', "TypeError"),
        ('{"metrics": {}}', "no metric of depth on val; train it on the same tasks"),
        (json.dumps({"metrics": METRICS | {"test/depth/within_1_25": None}}), "depth on test"),
        (json.dumps({"metrics": METRICS | {"val/depth/within_1_25": 0}}), "depth on val"),
        (json.dumps({"metrics": {"val/edges/error": 1, "test/edges/error": 1}}), "depth on val"),
        (json.dumps({"metrics": METRICS, "config": {"method": "snip"}}), "which is of snip"),
    ],
)
def test_a_baseline_that_compares_with_nothing(
    content: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dense.json").write_text(content)
    baseline = ["--baseline", tmp_path / "dense.json"]
    assert run("train", "snip", "--tasks", "depth", *baseline) == 2
    said = capsys.readouterr().err
    assert "--json file of a dense run" in said
    assert part in said
    assert "train dense" in said


def test_a_setting_without_effect_is_noted(scenes: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SMALL, "--data-root", scenes, "--steps", "2", "--set"]
    assert run("train", "snip", *arguments, "regrowth.fraction=0.3") == 0
    assert capsys.readouterr().err == "note: snip does not read regrowth.fraction\n"
    assert run("train", "rigl", *arguments, "regrowth.fraction=0.3") == 0
    assert capsys.readouterr().err == ""
    assert run("train", "dense", *arguments[:-1], "--sparsity", "0.5") == 0
    assert "note: dense does not read sparsity.target\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "setting"),
    [
        ("--sparsity", "0.9", "sparsity.target=0.5"),
        ("--tasks", "depth", "data.tasks=normals"),
        ("--data-root", "here", "data.root=there"),
        ("--metrics", "published", "metrics=corrected"),
    ],
)
def test_a_setting_is_given_once(
    option: str, value: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "snip", option, value, "--set", setting) == 2
    name = setting.partition("=")[0]
    said = f"`{name}` must be given once, got {option} {value} and --set {setting}; leave one out"
    assert said in capsys.readouterr().err


def test_a_baseline_with_nulls_and_other_tasks_serves(scenes: str, tmp_path: Path) -> None:
    metrics = METRICS | {"test/depth/absolute_error": None, "test/edges/error": 0.1}
    (tmp_path / "dense.json").write_text(json.dumps({"metrics": metrics}))
    arguments = [*SMALL, "--data-root", scenes, "--tasks", "depth", "--steps", "2"]
    arguments += ["--baseline", tmp_path / "dense.json", "--json", tmp_path / "result.json"]
    assert run("train", "random", *arguments) == 0
    found = json.loads((tmp_path / "result.json").read_text())["metrics"]
    expected = 100 * (found["test/depth/within_1_25"] - 0.5) / 0.5
    assert found["test/multitask/delta_percent"] == pytest.approx(expected)


def test_the_result_is_printed_though_it_cannot_be_written(
    scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: object, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainables.__main__.write_json", full)
    arguments = [*SMALL, "--data-root", scenes, "--steps", "2", "--json", tmp_path / "a.json"]
    assert run("train", "random", *arguments) == 1
    said = capsys.readouterr()
    assert "test/segmentation/miou" in said.out
    assert "no space left" in said.err


def test_lists_take_the_options_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "methods") == 0
    listed = capsys.readouterr().out
    assert run("list", "methods", "--quiet") == 0
    assert capsys.readouterr().out == listed
    assert "disparse-static" in listed


def test_frames_of_another_configuration_are_not_trained_on(
    scenes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "random", *SMALL, "--data-root", scenes) == 0
    other = [*SMALL, "--set", "data.num_train=960", "--data-root", scenes]
    assert run("train", "random", *other) == 2
    assert "generated with data.num_train=24, data.num_test=8" in capsys.readouterr().err


def test_a_dense_model_is_kept_in_the_folder_that_is_named(
    scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for number, cache in enumerate((tmp_path / "dense", tmp_path / "dense", Path("/dev/null/no"))):
        path = tmp_path / f"{number}.json"
        arguments = ["--data-root", scenes, "--dense-cache", cache, "--json", path]
        assert run("train", "random-pretrained", *SMALL, *arguments) == 0
        results.append(json.loads(path.read_text())["metrics"])
        assert len(list((tmp_path / "dense").glob("*/run"))) == 1
    assert results[0] == results[1] == results[2]
    assert "/dev/null/no cannot be used" in capsys.readouterr().err


def test_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run("train", "snip", "--device", "cuda") == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err


def test_an_empty_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "snip", "--dataset", "nyu-v2", "--data-root", tmp_path) == 2
    assert f"got the empty folder {tmp_path}" in capsys.readouterr().err


def test_a_truncated_store(scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "random", *SMALL, "--data-root", scenes) == 0
    for split in ("train.arrow", "test.arrow"):
        data = (Path(scenes) / split).read_bytes()
        (tmp_path / split).write_bytes(data[: len(data) * 2 // 3])
    assert run("train", "random", *SMALL, "--data-root", tmp_path) == 2
    said = capsys.readouterr().err
    assert "train.arrow" in said
    assert "Traceback" not in said


def test_a_killed_run_resumes_to_the_same_result(
    scenes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "disparse-dynamic", *SMALL, "--steps", "40", "--data-root", scenes]
    arguments += ["--set", "training.num_reports=20"]
    assert run(*arguments, "--json", tmp_path / "whole.json") == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "trainables", *arguments, "--out", str(tmp_path / "out")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 50
    while not (tmp_path / "out" / "checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "summary.json").exists()
    resumed = [*arguments, "--out", tmp_path / "out", "--resume", "--json", tmp_path / "after.json"]
    assert run(*resumed) == 0
    assert "begins anew" not in capsys.readouterr().err
    # Without --resume it starts over, and says so.
    short = ["train", "snip", *SMALL, "--steps", "4", "--data-root", scenes]
    assert run(*short, "--out", tmp_path / "out") == 0
    said = f"note: training begins anew; {str(tmp_path / 'out')!r} holds a checkpoint, from which"
    assert said in capsys.readouterr().err
    whole = json.loads((tmp_path / "whole.json").read_text())
    after = json.loads((tmp_path / "after.json").read_text())
    assert after["metrics"] == whole["metrics"]
    assert after["masks"] == whole["masks"]
