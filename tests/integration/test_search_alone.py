"""docs/search_alone.md, run as it stands, and what its parts load."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.records import environment

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "search_alone.md"


def code_of(name: str) -> str:
    text = DOCUMENT.read_text(encoding="utf-8")
    (found,) = re.findall(rf"```python\n# {name}\n(.*?)```", text, re.DOTALL)
    return str(found)


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(code_of(name), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, name],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**environment(), "PYTHONPATH": str(REPOSITORY), "RAY_CHDIR_TO_TRIAL_DIR": "0"},
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.timeout(1200)
def test_the_example_for_optuna(tmp_path: Path) -> None:
    done = run("with_optuna.py", tmp_path)
    front = json.loads(done.stdout.replace("(", "[").replace(")", "]"))
    accuracies = [accuracy for accuracy, _ in sorted(front, key=lambda point: point[1])]
    assert len(front) >= 3
    assert accuracies == sorted(accuracies)
    assert "pruned" in done.stderr  # Optuna's own log
    assert "finished with values" in done.stderr


@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_the_example_for_ray(tmp_path: Path) -> None:
    last = run("with_ray.py", tmp_path).stdout.strip().splitlines()[-1]
    found = re.fullmatch(r"Using ParetoASHA: records by rung \{3\.?0?: 12\} (\d+) steps", last)
    assert found, last
    assert 12 * 3 <= int(found[1]) < 12 * 9  # some were stopped


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("search.samplers.optuna_sampler", ("ray", "mlflow", "torch")),
        ("search.schedulers.optuna_pruner", ("ray", "mlflow", "torch")),
        ("search.schedulers.pareto_asha", ("mlflow", "optuna", "torch")),
    ],
)
def test_what_they_load(module: str, unwanted: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print([n for n in {unwanted} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
