"""From model.pt to files to take home, by the command line; mistakes get one clear message."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.shipping.conftest import Config
from tests.trainables.shipping.models import images, untrained
from trainables.__main__ import app
from trainables.config import TrialConfig
from trainables.errors import Failure, UserError
from trainables.report import METRICS, without_split
from trainables.shipping import ship
from trainables.shipping.card import model_card, predict_in_five_lines
from trainables.shipping.formats import packages
from trainables.shipping.formats.packed import load_packed
from trainables.shipping.options import ShipOptions
from trainables.terminal.command_line import run_command_line
from trainables.training.export import load_model
from trainables.training.trial import TrialRun

OWN = "tests.trainables.shipping.models:Own"
FILES = {"model.onnx", "model.pt2", "weights.safetensors", "card.md", "ship.json"}


def run(*arguments: object) -> int:
    """The exit code, in this process."""
    with pytest.raises(SystemExit) as stop:
        run_command_line(lambda: app(["ship", *map(str, arguments)]))
    code = stop.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def shipped(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shipped") / "deep" / "out"
    assert run(model_file, "--out", out, "--quiet") == 0
    return out


@pytest.fixture(scope="module")
def result(shipped: Path) -> dict[str, Any]:
    return json.loads((shipped / "ship.json").read_text())


def test_all_files_are_there_and_no_others(shipped: Path, result: dict[str, Any]) -> None:
    assert {path.name for path in shipped.iterdir()} == FILES
    for name, size in result["files"].items():
        assert (shipped / name).stat().st_size == size
    assert result["problems"] == []


def test_the_object_holds_what_json_files_hold(
    model_file: Path, result: dict[str, Any], config: Config
) -> None:
    contract = {"command", "config", "seed", "metrics", "masks", "timing", "versions"}
    assert contract <= set(result)
    assert TrialConfig.from_dict(result["config"]) == load_model(model_file).config
    metrics = result["metrics"]
    assert {without_split(name) for name in metrics} <= set(METRICS)
    assert metrics["cost/model_bytes"] == result["files"]["weights.safetensors"]
    assert result["sizes"]["bytes"] == result["files"]["weights.safetensors"]
    assert result["masks"]["kept"] == round(0.1 * result["masks"]["total"])
    assert result["latency"]["runtime"] == "onnxruntime"


def test_metrics_are_those_of_the_trained_model(config: Config, result: dict[str, Any]) -> None:
    trial = TrialRun(config(), device="cpu")
    while (report := trial.next_report()) is not None:
        expected = report.metrics
    quality = {name: v for name, v in result["metrics"].items() if name.startswith("test/")}
    assert len(quality) == 8
    for name, value in quality.items():
        assert value == pytest.approx(expected[name], rel=1e-4), name


def test_the_packed_weights_are_the_model(shipped: Path, model_file: Path) -> None:
    expected = load_model(model_file).model(images())
    for task, prediction in load_packed(shipped / "weights.safetensors").model(images()).items():
        assert torch.equal(prediction, expected[task])


def test_the_five_lines_predict(
    shipped: Path, model_file: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = predict_in_five_lines()
    assert lines in (shipped / "card.md").read_text()
    assert lines in (repository / "docs" / "shipping.md").read_text()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    names: dict[str, Any] = {"pixels": pixels}
    monkeypatch.chdir(shipped)
    exec(lines, names)
    trained = load_model(model_file)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (trained.image_mean, trained.image_std))
    inputs = (torch.from_numpy(pixels).movedim(3, 1).float() / 255 - mean) / std
    with torch.no_grad():
        expected = trained.model(inputs)
    assert set(names["predictions"]) == set(expected)
    for task, prediction in names["predictions"].items():
        difference = (torch.from_numpy(prediction) - expected[task]).abs().max()
        assert difference <= 1e-4 * expected[task].abs().max()


def test_the_card_names_what_a_reader_asks(shipped: Path, result: dict[str, Any]) -> None:
    card = (shipped / "card.md").read_text()
    for heading in ("Quality", "Size", "Time", "Data", "Use", "Made by", "Limits"):
        assert f"\n## {heading}\n" in card
    assert f"{result['sizes']['bytes']:,}" in card
    assert "onnxruntime, cpu" in card
    assert "batch of 1 at 32x32" in card
    assert "zeros in place" in card
    assert "±" not in card


def test_several_seeds_give_intervals(result: dict[str, Any]) -> None:
    seeds = [{name: value + i for name, value in result["metrics"].items()} for i in range(3)]
    card = model_card(result, seeds)
    assert "3 seeds, mean ± 95 %" in card
    assert "| 3 fresh seeds, mean ± 95 % |" in model_card(result, seeds, "3 fresh seeds")
    said = "the selected seed (2 fresh ones failed)"
    assert f"The values are of {said}." in model_card(result, seeds[:1], said)
    assert "The values are of" not in model_card(result, seeds[:1])
    miou = result["metrics"]["test/segmentation/miou"]
    assert f"| {int(1000 * (miou + 1)) / 1000:.4g} ± 2.5 |" in card  # rounded to the worse side


def test_a_users_model_without_data_by_torch(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainables.data.catalogue import open_dataset
    from trainables.training.export import save_model

    settings = config(model__name=OWN)
    trained = untrained(settings)
    save_model(
        tmp_path / "m.pt", settings, trained.model, trained.registry, open_dataset(settings.data)
    )
    arguments = ("--no-data", "--runtime", "torch", "--size", "48x64", "--batch", 2, "--quiet")
    assert run(tmp_path / "m.pt", "--out", tmp_path / "out", *arguments, "--json", "-") == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((tmp_path / "out" / "ship.json").read_text())
    assert said["latency"]["size"] == [48, 64]
    assert (said["latency"]["runtime"], said["latency"]["batch"]) == ("torch", 2)
    assert said["verification"]["on"] == "random images"
    assert not [name for name in said["metrics"] if name.startswith("test/")]
    assert "No data were at hand" in (tmp_path / "out" / "card.md").read_text()


def test_without_a_network_that_can_be_exported_the_rest_is_shipped(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainables.data.catalogue import open_dataset
    from trainables.training.export import save_model

    settings = config(model__name="tests.trainables.shipping.models:Untraceable")
    trained = untrained(settings)
    save_model(
        tmp_path / "m.pt", settings, trained.model, trained.registry, open_dataset(settings.data)
    )
    assert run(tmp_path / "m.pt", "--out", tmp_path / "out", "--quiet") == 1
    error = capsys.readouterr().err
    assert "failed: shipped without model.pt2 and model.onnx: torch.export cannot follow gate" in (
        error
    )
    assert "Traceback" not in error
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES - {"model.onnx", "model.pt2"}
    made = json.loads((tmp_path / "out" / "ship.json").read_text())
    assert made["latency"]["runtime"] == "torch"
    assert made["metrics"]["test/depth/absolute_error"] > 0
    assert "There is no ONNX file" in (tmp_path / "out" / "card.md").read_text()


def test_nothing_is_written_if_the_shipped_model_disagrees(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: torch.nn.Module, registry: object) -> object:
        other = untrained(config(model__name=OWN), seed=1)
        return ship.copied(other.model)

    monkeypatch.setattr(ship, "compact", wrong)
    with pytest.raises(Failure, match="differs by"):
        ship.ship(
            untrained(config(model__name=OWN)), tmp_path / "out", ShipOptions(), command=["ship"]
        )
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_replaced_is_named(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, fast = tmp_path / "out", ShipOptions(runtime="torch", with_data=False)
    for seed in (0, 0, 1):  # the same model again is no other one
        trained = untrained(config(model__name=OWN), seed=seed)
        ship.ship(trained, out, fast, command=["ship", "mine"])
    said = [record.getMessage() for record in caplog.records if record.name == ship.__name__]
    assert said == [
        f"note: {out} held a {trained.config.method} model, shipped by `ship mine`; this one "
        "replaces it"
    ]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "runtime": (["--runtime", "onnx"], "unknown runtime 'onnx'; valid: onnxruntime, torch"),
    "device": (["--device", "gpu"], "unknown device 'gpu'. Did you mean 'cpu'? Valid: cpu, cuda"),
    "threads": (["--threads", "0"], "`--threads` must be at least 1, got 0"),
    "batch": (["--batch", "0"], "`--batch` must be at least 1, got 0"),
    "size": (["--size", "64"], "`--size` must be HEIGHTxWIDTH, got '64'"),
    "small size": (["--size", "4x4"], "`data.size` must be at least 16"),
    "other size": (["--size", "48x48"], "or pass `--no-data`"),
    "no data there": (["--data-root", "pyproject.toml"], "or pass `--no-data`"),
    "both": (["--data-root", "x", "--no-data"], "leave out one of them"),
    "out is a file": (["--out", "pyproject.toml"], "`--out` must be writable"),
    "summary": (["--summary", "pyproject.toml"], "`--summary` must be the --json file"),
    "json": (["--json", "pyproject.toml/x"], "`--json` must be writable"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_message(
    mistake: str, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = MISTAKES[mistake]
    assert run(model_file, "--out", tmp_path / "out", "--quiet", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", ["missing", "damaged", "foreign", "hollow"])
def test_a_bad_model_gets_one_message(
    kind: str, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt"
    if kind == "damaged":
        path.write_bytes(model_file.read_bytes()[:3000])
    elif kind == "foreign":
        torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    elif kind == "hollow":
        torch.save({**torch.load(model_file, weights_only=True), "model": {}}, path)
    assert run(path, "--out", tmp_path / "out", "--quiet") == 2
    error = capsys.readouterr().err
    assert "model.pt" in error
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        packages.importlib.util,  # type: ignore[attr-defined]
        "find_spec",
        lambda name: None if name == "onnxscript" else object(),
    )
    with pytest.raises(UserError, match=r"no onnxscript;.*pip install -e '\.\[ship\]'"):
        packages.require_packages()


@pytest.mark.slow
def test_the_command_as_a_user_types_it(model_file: Path, repository: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainables", "ship", str(model_file), "--out", str(tmp_path)],
        cwd=repository,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "of the dense network's bytes" in done.stdout
    assert all(line.startswith("shipping ") for line in done.stderr.splitlines()), done.stderr
