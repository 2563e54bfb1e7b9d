"""pyproject.toml (ranges), constraints.txt (pins) and environment.yml (conda) stay together."""

import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


# Of `make bench-search` alone: pinned like the others, but in no environment by default.
PEERS = "peers"


def declared(*, peers: bool = False) -> list[Requirement]:
    """Every requirement of pyproject.toml, extras included; those compared with only on demand."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]]
    for name, extra in project["optional-dependencies"].items():
        lines += extra if peers or name != PEERS else []
    return [Requirement(line) for line in lines]


def pin_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def pins() -> dict[str, str]:
    """constraints.txt as `{canonical name: version}`."""
    return {canonicalize_name(n): v for n, _, v in (line.partition("==") for line in pin_lines())}


def conda() -> tuple[list[str], list[str]]:
    """environment.yml as (conda's dependencies, pip's lines)."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (nested,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return [entry for entry in dependencies if isinstance(entry, str)], nested


def conda_requirements() -> list[Requirement]:
    return [Requirement(line) for line in conda()[1] if not line.startswith("-")]


def test_a_pin_is_one_name_at_one_exact_public_version() -> None:
    """NAME==VERSION: no local version (+cpu), no path, no marker, no range."""
    exact = re.compile(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*")
    assert [line for line in pin_lines() if not exact.fullmatch(line)] == []


def test_nothing_is_pinned_twice() -> None:
    counts = Counter(canonicalize_name(line.partition("==")[0]) for line in pin_lines())
    assert [name for name, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("requirement", declared(peers=True), ids=str)
def test_every_declared_range_is_pinned_inside_the_range(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    assert name in pins(), f"{name} is declared in pyproject.toml but constraints.txt lacks it"
    assert requirement.specifier.contains(pins()[name], prereleases=True), (
        f"{name}=={pins()[name]} lies outside {requirement.specifier} of pyproject.toml"
    )
    assert str(requirement.specifier), f"{name} must declare at least a lower bound"


def test_make_peers_installs_all_of_the_extra_and_no_more() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {
        canonicalize_name(Requirement(line).name)
        for line in project["optional-dependencies"][PEERS]
    }
    recipe = (ROOT / "Makefile").read_text().split("\npeers:")[1].split("\n\n")[0]
    words = recipe.split("constraints.txt", 1)[1].split()
    assert {canonicalize_name(word) for word in words if word != "\\"} == extra


def test_one_package_has_one_range_wherever_it_is_declared() -> None:
    seen: dict[str, str] = {}
    for requirement in declared(peers=True):
        name, specifier = canonicalize_name(requirement.name), str(requirement.specifier)
        assert seen.setdefault(name, specifier) == specifier


def test_conda_lists_exactly_the_declared_packages_with_their_extras() -> None:
    ours = {(canonicalize_name(r.name), frozenset(r.extras)) for r in declared()}
    listed = [(canonicalize_name(r.name), frozenset(r.extras)) for r in conda_requirements()]
    assert set(listed) == ours
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("requirement", conda_requirements(), ids=str)
def test_conda_pins_what_the_constraints_pin(requirement: Requirement) -> None:
    assert str(requirement.specifier) == f"=={pins()[canonicalize_name(requirement.name)]}"


def test_conda_reads_the_constraints_and_our_python() -> None:
    from_conda, from_pip = conda()
    assert "-c constraints.txt" in from_pip  # else the transitive versions drift
    (python,) = [entry for entry in from_conda if entry.startswith("python=")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = Requirement(f"python{project['requires-python']}").specifier
    assert wanted.contains(python.removeprefix("python="))


def test_the_core_install_is_the_short_list_of_the_design() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    assert core == {"torch", "numpy", "pyarrow", "pillow", "h5py", "filelock", "typer", "rich"}


def test_the_declared_packages_are_installed_within_their_ranges() -> None:
    """The interpreter that runs the tests is a fit one, whoever built its environment."""
    from importlib import metadata

    outside = {
        requirement.name: metadata.version(requirement.name)
        for requirement in declared()
        if not requirement.specifier.contains(
            Version(metadata.version(requirement.name)).public, prereleases=True
        )
    }
    assert outside == {}


def make(*arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), *arguments],
        cwd=path,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.fixture
def bare_clone(tmp_path: Path) -> Path:
    """A folder with the two files that `make setup` depends on."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_setup_refuses_an_old_python_and_says_what_to_do(bare_clone: Path) -> None:
    old = bare_clone / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.10" && exit 0\nexit 1\n')
    old.chmod(0o755)
    result = make("setup", f"PYTHON={old}", path=bare_clone)
    assert result.returncode == 2
    assert "Python >= 3.11 is needed" in result.stderr
    assert "Python 3.8.10" in result.stderr
    assert "make setup PYTHON=" in result.stderr
    assert not (bare_clone / ".venv").exists()


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check", "bench"])
def test_every_target_creates_the_environment_once_and_again_when_the_pins_change(
    bare_clone: Path, target: str
) -> None:
    def installs() -> bool:
        return "pip install" in make("--dry-run", target, path=bare_clone).stdout

    assert installs()
    stamp = bare_clone / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    now = stamp.stat().st_mtime
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(bare_clone / name, (now - 10, now - 10))
    assert not installs()
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(bare_clone / name, (now + 10, now + 10))
        assert installs()
        os.utime(bare_clone / name, (now - 10, now - 10))


def test_make_alone_lists_the_targets(bare_clone: Path) -> None:
    listing = make(path=bare_clone).stdout
    for target in ("setup", "demo", "test", "check", "bench"):
        assert f"make {target} " in listing


def test_this_interpreter_is_one_we_declare() -> None:
    assert sys.version_info >= (3, 11)
