"""What a user's own model, task, rule or source raises is one message that says where."""

import functools
import importlib
import json
import sys
from pathlib import Path

import pytest
import typer

from trainables.__main__ import app
from trainables.errors import Failure, UserError
from trainables.terminal.command_line import run_command_line
from trainables.user_code import bug, calling, is_interruption, is_ours, running, told

OWN = Path(__file__).with_name("users_own_code.py").read_text()
NAME = "a_users_code"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of a user's own."""
    from trainables.registry import tasks

    monkeypatch.setattr(tasks, "_own", {})
    (tmp_path / f"{NAME}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.chdir(tmp_path)
    return NAME


def line_of(text: str) -> str:
    """Return `file:line` of the first line of the user's module that holds a text."""
    number = next(i for i, line in enumerate(OWN.splitlines(), 1) if text in line)
    return f"{NAME}.py:{number}"


def run(*arguments: object) -> int:
    """Run the command line in this process and return its exit code."""
    with pytest.raises(SystemExit) as stop:
        run_command_line(lambda: app([str(argument) for argument in arguments]))
    return int(stop.value.code or 0)


def train(scenes: str, *arguments: object, method: str = "dense") -> int:
    settings = {
        "training.num_reports": 2,
        "training.batch_size": 2,
        "data.num_train": 24,
        "data.num_test": 8,
        "data.size": "80x80",
        "data.crop": "80x80",
    }
    small: list[object] = ["--steps", 4, "--quiet", "--data-root", scenes, "--device", "cpu"]
    for name, value in settings.items():
        small += ["--set", f"{name}={value}"]
    if "--tasks" not in arguments:
        small += ["--tasks", "depth"]
    return run("train", method, *small, *arguments)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("scenes"))


@pytest.mark.parametrize("kind", ["Good", "Lambda", "FiveDimensions"])
def test_a_model_that_is_sound_trains(own: str, scenes: str, kind: str, capsys) -> None:
    assert train(scenes, "--set", f"model.name={own}:{kind}", method="snip") == 0, capsys
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("option", [("--json", "-"), ("--json=-",), ("--json",)])
def test_what_ones_own_code_prints_is_not_in_the_answer(
    own: str, scenes: str, option: tuple[str, ...], capsys
) -> None:
    assert train(scenes, "--set", f"model.name={own}:Talks", *option) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["config"]["model"]["name"] == f"{own}:Talks"
    assert "features of" in said.err
    assert train(scenes, "--set", f"model.name={own}:Talks") == 0
    assert "features of" in capsys.readouterr().out  # with no answer to keep apart


@pytest.mark.parametrize("method", ["dense", "snip"])
@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("ThreeLevels", ["1x3x80x80", "`middle.inner.inner` (Level)", line_of("# the mismatch")]),
        ("WeightNorm", ["`middle.0`", "remove_parametrizations"]),
        ("PrunedLinear", ["`middle` (Conv2d)", "prune.remove"]),
        ("ReturnsList", ["must return a dict with the keys ('depth',), got list"]),
        ("ListInTraining", ["must return a dict with the keys ('depth',), got list"]),
        ("Flat", ["depth must be a tensor of shape (1, channels, h, w), got (1, 1)"]),
        ("NeedsArgument", ["TypeError: ", "missing 1 required positional argument: 'depth'"]),
        ("FactoryNeedsArgument", ["factory(config, num_channels)", "argument: 'width'"]),
        ("RaisesOther", ["1x3x64x64", "the model itself (RaisesOther) Ends: of mine"]),
        ("LeavesTraining", ["2x3x80x80", "(LeavesTraining) GeneratorExit: left"]),
        ("ChangesInPlace", [line_of("# saved for"), "`middle.1` (InPlace)", "inplace operation"]),
    ],
)
def test_a_model_that_fails_is_named_with_its_part_and_line(
    own: str, scenes: str, kind: str, parts: list[str], method: str, capsys
) -> None:
    assert train(scenes, "--set", f"model.name={own}:{kind}", method=method) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    for part in parts:
        assert part in said


def test_a_batch_of_one_and_a_hook_of_the_model(own: str, scenes: str, capsys) -> None:
    one = ["--set", "training.batch_size=1", "--set", f"model.name={own}:BatchOfOne"]
    assert train(scenes, *one) == 2
    said = capsys.readouterr().err
    assert "`middle.norm` (BatchNorm2d)" in said
    assert line_of("return x + self.norm") in said
    assert train(scenes, "--set", f"model.name={own}:HookRaises") == 2
    said = capsys.readouterr().err
    assert f"IndexError: my schedule ends ({line_of('my schedule ends')})" in said


@pytest.mark.parametrize(
    ("task", "code", "parts"),
    [
        ("LOSS_RAISES", 2, ["the loss of task 'height'", "KeyError: 'weights'", "2x1x20x20"]),
        ("LOSS_OF_PIXELS", 2, ["loss of task 'height' must be a tensor without dim", "(2,)"]),
        ("LOSS_IS_NAN", 1, ["loss is nan (of height nan) at step 0", "no step was taken yet"]),
        ("METRIC_IS_MISSING", 2, ["metrics of task 'height'", "got ('height/rmse',)"]),
    ],
)
def test_a_task_that_fails(
    own: str, scenes: str, task: str, code: int, parts: list[str], capsys
) -> None:
    named = ["--tasks", f"{own}:{task}", "--set", f"model.name={own}:Good"]
    assert train(scenes, *named) == code
    said = capsys.readouterr().err
    for part in parts:
        assert part in said, said
    assert len(said.splitlines()) == 1


def test_a_metric_that_raises_at_the_end_loses_no_training(
    own: str, scenes: str, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = ["--tasks", f"{own}:HEIGHT", "--out", tmp_path / "out", "--json"]
    assert train(scenes, *named, tmp_path / "whole.json") == 0
    named = ["--tasks", f"{own}:HEIGHT", "--out", tmp_path / "again", "--json", "-"]
    module = sys.modules[own]
    monkeypatch.setattr(module.Error, "broken", True)
    assert train(scenes, "--set", "training.num_reports=1", *named) == 2
    said = capsys.readouterr().err
    assert "ZeroDivisionError: no pixels" in said
    assert f"step 4 is kept in {tmp_path / 'again' / 'checkpoint'}: --resume goes on" in said
    monkeypatch.setattr(module.Error, "broken", False)
    monkeypatch.setattr(
        "trainables.training.loop.loop.TrainingLoop.advance",
        lambda self: pytest.fail("it was trained again"),
    )
    assert train(scenes, "--set", "training.num_reports=1", *named, "--resume") == 0
    assert (tmp_path / "again" / "model.pt").exists()


@pytest.mark.parametrize(
    ("rule", "parts"),
    [
        ("RULE", ["rule of method", "KeyError: 'no.such.weight'", line_of("no.such.weight")]),
        ("NO_PROPOSAL", ["rule of method", "must return a Proposal", "got None"]),
    ],
)
def test_a_rule_that_fails(own: str, scenes: str, rule: str, parts: list[str], capsys) -> None:
    assert train(scenes, method=f"{own}:{rule}") == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said, said


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("KEY_MISSING", ["frame 4 of train", "KeyError: 'val'", line_of('else "val"]')]),
        ("FILE_DENIED", ["frame 0 of test", "/elsewhere/test/1.npy"]),
        ("DISK_FULL", ["frame 0 of train", "/elsewhere/scratch"]),
        ("RETURNS_DICT", ["frame 0 of train must be a trainables.data.frame.Frame, got dict"]),
        ("INDEX_LOST", ["raw data", "FileNotFoundError", "index.json", line_of("read_text()")]),
        ("INDEX_DENIED", ["raw data", "PermissionError", "index.json"]),
        ("LEAVES", ["frame 0 of train", "GeneratorExit: left"]),
        ("NO_COUNT", ["num_frames('test')", "KeyError: 'test'"]),
    ],
)
def test_a_source_that_fails_is_not_blamed_on_the_destination(
    own: str, tmp_path: Path, kind: str, parts: list[str], capsys
) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x").touch()
    (tmp_path / "to").mkdir()
    to = tmp_path / "to" / "store"
    assert run("convert", f"{own}:{kind}", tmp_path / "raw", to, "--quiet") == 2
    said = capsys.readouterr().err
    for part in parts:
        assert part in said, said
    assert "writable" not in said
    assert str(to) not in said
    assert not to.exists()
    assert not [path for path in to.parent.iterdir() if path.suffix != ".lock"]


def test_the_traceback_is_shown_with_debug_alone(
    own: str, scenes: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPARSE_DEBUG", raising=False)
    model = ["--set", f"model.name={own}:ThreeLevels"]
    assert train(scenes, *model) == 2
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("DISPARSE_DEBUG", "1")
    assert train(scenes, *model) == 2
    said = capsys.readouterr().err
    assert "torch.cat([x, y], 1)" in said
    assert said.splitlines()[-1].startswith("error: model ")


def test_the_line_between_ours_and_theirs() -> None:
    class Theirs:
        def work(self) -> None:
            raise LookupError("gone")

    said = r"^it raised LookupError: gone \(test_user_code.py:\d+\)"
    with pytest.raises(UserError, match=said), calling("it", Theirs()):
        Theirs().work()
    with pytest.raises(UserError, match=said), running({"it": Theirs()}):
        Theirs().work()
    ours = UserError("ours")
    assert is_ours(ours)
    assert not is_ours(Theirs)
    with pytest.raises(LookupError), calling("it", ours):
        Theirs().work()
    with pytest.raises(ZeroDivisionError), running({"the model": ours}):
        1 // 0  # noqa: B018
    for error in (Failure("known"), MemoryError(), OSError(28, "full"), KeyboardInterrupt()):
        with pytest.raises(type(error)), calling("it", Theirs()):
            raise error


def test_what_ends_a_trial_from_outside_is_no_error_of_theirs() -> None:
    from trainables.sweep.worker import Stopped

    class Theirs(BaseException):
        pass

    for error in (Theirs("x"), GeneratorExit("x"), SystemExit(3)):
        assert not is_interruption(error)
        with pytest.raises(UserError, match=r"raised (Theirs|Gen|Sys)"), calling("it", Theirs()):
            raise error
    for error in (Stopped(), KeyboardInterrupt()):
        assert is_interruption(error)
        with pytest.raises(type(error)), calling("it", Theirs()):
            raise error
        with pytest.raises(type(error)), running({"it": Theirs()}):
            raise error


def test_a_class_whose_attributes_raise_is_theirs() -> None:
    class Closed:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError(f"no {name}")

    assert not is_ours(Closed())


def test_a_function_that_remembers_its_answers_is_of_its_package() -> None:
    assert is_ours(functools.cache(bug))
    assert not is_ours(functools.cache(line_of))


def test_a_bug_of_ours_says_so_with_our_line() -> None:
    from trainables.seeds import derive_seed

    with pytest.raises(AssertionError) as caught:
        derive_seed(0, "no such stream")
    assert "bug of disparse-search: AssertionError" in bug(caught.value)
    assert "trainables/seeds.py:" in bug(caught.value)
    assert told(ValueError("a\n b")) == "ValueError: a b"


@pytest.mark.parametrize("package", ["trainables", "search", "analysis", "spaces"])
def test_every_command_has_the_option_that_shows_a_traceback(package: str) -> None:
    names = {
        "trainables": ["train", "ship", "convert", "list"],
        "search": ["run", "baselines", "resume", "extend", "status", "sync", "ship", "delete"],
        "analysis": ["front", "report", "pick", "compare", "table", "published", "layers"],
        "spaces": ["list", "show"],
    }
    commands = typer.main.get_command(importlib.import_module(f"{package}.__main__").app)
    assert set(names[package]) <= set(commands.commands)
    for command in (commands, *commands.commands.values()):
        assert [p for p in command.params if "--debug" in p.opts], command.name
