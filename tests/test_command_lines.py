"""Check that all four command lines have the same flags and layout."""

import importlib

import pytest
import typer
from typer.testing import CliRunner

from trainables.terminal.as_typed import python

PACKAGES = ("trainables", "spaces", "search", "analysis")


def app_of(package: str) -> typer.Typer:
    return importlib.import_module(f"{package}.__main__").app


def commands() -> list[tuple[str, str]]:
    return [(p, name) for p in PACKAGES for name in typer.main.get_command(app_of(p)).commands]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_command_line_itself(package: str) -> None:
    runner = CliRunner()
    long, short = (runner.invoke(app_of(package), [flag]) for flag in ("--help", "-h"))
    assert long.exit_code == 0
    assert long.output == short.output
    assert "..." not in long.output.replace("[ARGS]...", "")  # nothing is cut off
    assert long.output.startswith(f"Usage: {python()} -m {package} ")
    version = runner.invoke(app_of(package), ["--version"])
    assert (version.exit_code, version.output.split()[0]) == (0, "disparse-search")


@pytest.mark.parametrize(
    ("package", "words", "said"),
    [
        ("search", "run demo --trials two", "'--trials': must be a whole number, got 'two'"),
        ("search", "confirm demo --seeds 2.5", "'--seeds': must be a whole number, got '2.5'"),
        ("search", "run demo --epochs x", "'--epochs': must be a number, got 'x'"),
        ("trainables", "train snip --steps 1e3", "'--steps': must be a whole number, got '1e3'"),
    ],
)
def test_a_value_that_is_no_number(package: str, words: str, said: str) -> None:
    refused = CliRunner().invoke(app_of(package), words.split())
    assert refused.exit_code == 2
    assert said in refused.output


@pytest.mark.parametrize(
    "option", ["--concurrency 0", "--gpus-per-trial 2", "--trial-time-limit 0"]
)
def test_an_option_that_no_study_can_have_is_refused_at_once(option: str) -> None:
    refused = CliRunner().invoke(app_of("search"), ["run", "demo", *option.split()])
    assert f"`{option.split()[0]}` must be" in str(refused.exception)
    assert not refused.output  # nothing is set up


@pytest.mark.parametrize(("package", "name"), commands())
def test_every_command(package: str, name: str) -> None:
    shown = CliRunner().invoke(app_of(package), [name, "-h"])
    assert shown.exit_code == 0
    for flag in ("-q, --quiet", "--debug", "-h, --help"):
        assert shown.output.count(flag) == 1
    assert "Example" in shown.output
    assert f"  {python()} -m {package} {name}" in shown.output.replace("Example: ", "  ")


@pytest.mark.parametrize(("package", "name"), commands())
def test_an_example_can_be_pasted_into_any_shell(package: str, name: str) -> None:
    shown = CliRunner().invoke(app_of(package), [name, "-h"]).output
    typed = [line for line in shown.splitlines() if f"{python()} -m " in line]
    assert not [line for line in typed if " # " in line]  # zsh takes a comment for arguments
