"""Imports stay light, and the science needs no search libraries.

The direction of imports between the packages is import-linter's matter (`make check`).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("trainables", "spaces", "search", "analysis")
HEAVY = ("torch", "ray", "optuna", "mlflow", "pandas", "pyarrow", "matplotlib", "numpy")

# Stands in for a host where the libraries are not installed.
BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"ray", "optuna", "mlflow"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )


def loaded_by(statement: str) -> set[str]:
    """The top-level modules in memory after `statement` in a fresh interpreter."""
    result = python(
        f"import json, sys\n{statement}\n"
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def packages_and_rooms() -> list[str]:
    """Every package of ours that has an `__init__.py`, dotted."""
    found = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("__init__.py")):
            found.append(".".join(file.parent.relative_to(ROOT).parts))
    return found


def test_the_four_packages_are_there() -> None:
    assert set(PACKAGES) <= set(packages_and_rooms())


@pytest.mark.parametrize("package", packages_and_rooms())
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    assert loaded_by(f"import {package}").isdisjoint(HEAVY)


@pytest.mark.parametrize("module", ["trainables.report", "trainables.errors", "trainables.config"])
def test_the_shared_vocabulary_is_standard_library_only(module: str) -> None:
    assert loaded_by(f"import {module}").isdisjoint(HEAVY)


def analysis_modules() -> list[str]:
    files = sorted((ROOT / "analysis").rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [n.removesuffix(".__init__") for n in names]


def test_no_module_of_analysis_loads_torch_or_ray() -> None:
    """All in one interpreter: the union must be clean. MLflow itself loads neither."""
    modules = [m for m in analysis_modules() if not m.endswith("__main__")]
    statement = "\n".join(f"import {m}" for m in modules)
    assert loaded_by(statement).isdisjoint({"torch", "ray"})


def test_search_status_loads_no_torch() -> None:
    """It would take seconds, and the command only reads."""
    loaded = loaded_by("import search.__main__, search.messages, search.record.study_status")
    assert "torch" not in loaded


@pytest.mark.parametrize("kind", ["methods", "models", "datasets", "tasks", "metrics"])
def test_trainables_lists_its_parts_without_the_search_libraries(kind: str) -> None:
    result = python(
        BLOCK + "import runpy\nrunpy.run_module('trainables', run_name='__main__', alter_sys=True)",
        "list",
        kind,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


def test_the_blocker_blocks() -> None:
    """Else the test above could not fail."""
    for name in ("ray", "optuna", "mlflow"):
        result = python(BLOCK + f"import {name}")
        assert result.returncode == 1
        assert f"No module named '{name}'" in result.stderr
