"""Further seeds of one configuration: trained once, continued after an interruption."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from tests.trainables.shipping.conftest import Config
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.shipping import seeds
from trainables.shipping.seeds import metrics_of_seeds
from trainables.training.trial import TrialRun


@pytest.fixture(scope="module")
def short(config: Config) -> TrialConfig:
    return config(training__num_reports=2)


def of_seeds(config: TrialConfig, folder: Path, *numbers: int) -> list[dict[str, float]]:
    return metrics_of_seeds(config, numbers, folder, command=["ship"], device="cpu", quiet=True)


def trained(config: TrialConfig) -> dict[str, float]:
    run = TrialRun(config, device="cpu")
    while run.next_report() is not None:
        pass
    assert run.last_report is not None
    return {n: v for n, v in run.last_report.metrics.items() if n.startswith("test/")}


def test_each_seed_is_a_run_of_its_own_and_is_trained_once(
    short: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = of_seeds(short, tmp_path, 1, 2)
    for metrics, seed in zip(found, (1, 2), strict=True):
        expected = trained(short.replace({"seed": seed}))
        assert {name: metrics[name] for name in expected} == pytest.approx(expected)
    assert {path.name for path in (tmp_path / "seed-1").iterdir()} == {"summary.json"}
    assert json.loads((tmp_path / "seed-2" / "summary.json").read_text())["seed"] == 2
    moved = short.replace({"data.root": str(tmp_path / "elsewhere")})
    monkeypatch.setattr(seeds, "TrialRun", None)  # whoever trains fails
    assert of_seeds(moved, tmp_path, 1, 2) == found
    assert of_seeds(short, tmp_path) == []
    with pytest.raises(TypeError):
        of_seeds(short.replace({"sparsity.target": 0.5}), tmp_path, 1)


def test_an_interrupted_seed_is_continued(
    short: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = TrialRun.save

    def killed(run: TrialRun, directory: Path) -> None:
        save(run, directory)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrialRun, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        of_seeds(short, tmp_path, 1)
    monkeypatch.setattr(TrialRun, "save", save)
    reports = []
    real = TrialRun.next_report

    def counted(run: TrialRun) -> object:
        report = real(run)
        reports.append(report)
        return report

    monkeypatch.setattr(TrialRun, "next_report", counted)
    (metrics,) = of_seeds(short, tmp_path, 1)
    assert [report and report.final for report in reports] == [True, None]  # type: ignore[attr-defined]
    expected = trained(short.replace({"seed": 1}))
    assert {name: metrics[name] for name in expected} == expected


def test_two_processes_do_not_train_the_same(short: TrialConfig, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "lock", fallback_to_soft=False),
        pytest.raises(UserError, match="one process at a time may train"),
    ):
        of_seeds(short, tmp_path, 1)
