"""Check what importing `analysis` may load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "analysis").rglob("*.py")
)
NEVER = ("torch", "ray", "optuna", "search", "spaces")
HEAVY = ("mlflow", "matplotlib", "plotly", "pandas", "pyarrow", "moocore")


def loaded_after(*modules: str) -> set[str]:
    """Return the top-level packages in a fresh interpreter after importing `modules`."""
    code = (
        f"import json, sys\nfor m in {modules!r}: __import__(m)\n"
        "print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def test_no_module_loads_torch_or_the_other_rooms() -> None:
    assert len(MODULES) > 15
    assert not loaded_after(*MODULES) & set(NEVER)


@pytest.mark.parametrize(
    "module",
    ["analysis", "analysis.statistics.pareto", "analysis.statistics.choice", "analysis.__main__"],
)
def test_light_modules_stay_light(module: str) -> None:
    loaded = loaded_after(module)
    assert not loaded & {*NEVER, *HEAVY}
    if module == "analysis":
        assert "numpy" not in loaded


def test_what_ship_chooses_by_needs_no_package_of_analysis_alone() -> None:
    loaded = loaded_after("analysis.statistics.candidates", "analysis.studies.trials")
    assert not loaded & {*NEVER, "mlflow", "matplotlib", "plotly", "moocore"}


def test_only_what_all_rooms_share_comes_from_trainables() -> None:
    for path in (ROOT / "analysis").rglob("*.py"):
        for line in path.read_text().splitlines():
            if line.lstrip().startswith(("from trainables", "import trainables")):
                allowed = (
                    "from trainables import report",
                    "from trainables.registry",
                    "from trainables.pictures",
                    "from trainables.integrity.checksums import ",
                    "from trainables.checks import ",
                    "from trainables.errors import ",
                    "from trainables.addresses import ",
                    "from trainables.terminal.",
                )
                assert line.lstrip().startswith(allowed), f"{path}: {line}"
