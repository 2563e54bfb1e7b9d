"""A name, an entry point and an import path lead to one description; mistakes are said clearly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.errors import UserError
from trainables.registry.datasets import DATASETS
from trainables.registry.lookup import DATASET, METHOD, MODEL, TASK, Kind, implementation
from trainables.registry.methods import METHODS, MethodDescription
from trainables.registry.models import MODELS
from trainables.registry.tasks import TASKS, Metric, TaskDescription, remember

KINDS = {"method": METHOD, "model": MODEL, "task": TASK, "data set": DATASET}
BUILT_IN = {"method": METHODS, "model": MODELS, "task": TASKS, "data set": DATASETS}

OWN = '''
from trainables.registry.datasets import DatasetDescription
from trainables.registry.methods import MethodDescription
from trainables.registry.models import ModelDescription
from trainables.registry.tasks import Metric, TaskDescription

METHOD = MethodDescription(name="mine", summary="my rule", implementation="their_things:Rule")
MODEL = ModelDescription(name="mine", summary="my net", implementation="their_things:build")
TASK = TaskDescription(
    name="mine", summary="my task", implementation="their_things:Task", channels=1, kind="values",
    metrics=(Metric(name="mine/error", unit="m", direction="minimize", description="x"),),
    primary="mine/error",
)
SPEC = DatasetDescription(summary="my data", tasks=("depth",), num_classes=0, depth_kind="metric")
NUMBER = 3

def build(config, num_channels):
    """Build nothing.

    At length.
    """
'''


@pytest.fixture
def their_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with `their_things` and modules that do not import."""
    (tmp_path / "their_things.py").write_text(OWN)
    (tmp_path / "quits.py").write_text("import sys\nsys.exit('no licence')\n")
    (tmp_path / "divides.py").write_text("1 / 0\n")
    (tmp_path / "lacks.py").write_text("import a_library_that_is_not_there\n")
    (tmp_path / "wrong.py").write_text(
        "from trainables.registry.methods import MethodDescription\n"
        "METHOD = MethodDescription(name='m', summary='', implementation='m:M', rewinds=True)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_things", raising=False)
    return tmp_path


@pytest.mark.parametrize("noun", KINDS)
def test_built_in_ones_are_found_by_name_and_can_be_loaded(noun: str) -> None:
    for name, described in BUILT_IN[noun].items():
        assert KINDS[noun].find(name) is described
        assert described.name == name
        assert described.summary
        for field in ("implementation", "open_source", "generate"):
            if (path := getattr(described, field, None)) is not None:
                assert callable(implementation(path, noun))


@pytest.mark.parametrize(
    ("kind", "path", "summary"),
    [
        (METHOD, "their_things:METHOD", "my rule"),
        (MODEL, "their_things:MODEL", "my net"),
        (MODEL, "their_things:build", "Build nothing."),
        (TASK, "their_things:TASK", "my task"),
        (DATASET, "their_things:SPEC", "my data"),
    ],
)
def test_ones_own_are_found_by_import_path(
    their_things: Path, kind: Kind, path: str, summary: str
) -> None:
    assert kind.find(path).summary == summary
    assert kind.path(path) == path


@pytest.mark.parametrize("noun", KINDS)
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("their_things", "unknown {noun} 'their_things'; valid: .* named by its import path"),
        (":X", "a {noun}'s import path must read `package.module:[a-zA-Z]*`, got ':X'"),
        (".their_things:X", "name an absolute module"),
        ("their_things:", "must read `package.module:"),
        ("no_such.module:X", "{noun} .*: no module named 'no_such'; put its folder on PYTHONPATH"),
        ("lacks:X", "no module named 'a_library_that_is_not_there'"),
        ("their_things:NUMBR", "unknown attribute of their_things 'NUMBR'.*Did you mean 'NUMBER'"),
        ("their_things:NUMBER", "{noun} 'their_things:NUMBER' must be .*, got int"),
        ("divides:X", r"the module must import, got ZeroDivisionError: .* \(divides.py:1\)"),
        ("quits:X", r"the module must import, got SystemExit: no licence \(quits.py:2\)"),
        ("wrong:METHOD", r"must import, got UserError: method 'm' rewinds .* \(wrong.py:2\)"),
    ],
)
def test_mistakes(their_things: Path, noun: str, path: str, message: str) -> None:
    with pytest.raises(UserError, match=message.format(noun=noun)):
        KINDS[noun].find(path)


def test_a_description_of_another_kind_is_refused(their_things: Path) -> None:
    with pytest.raises(UserError, match="must be a MethodDescription, got TaskDescription"):
        METHOD.find("their_things:TASK")


def test_installed_packages_are_found_by_entry_point(their_things: Path, repository: Path) -> None:
    """What pip writes for a package with entry points; one of them does not import."""
    info = their_things / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[disparse.methods]\nmine = their_things:METHOD\nbroken = divides:METHOD\n"
        "rigl = their_things:METHOD\n"
        "[disparse.models]\nmy-net = their_things:MODEL\n"
        "[disparse.tasks]\nmine = their_things:TASK\n"
        "[disparse.datasets]\nmy-data = their_things:SPEC\n"
    )

    def listed(kind: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "trainables", "list", kind],
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(their_things)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    methods = listed("methods")
    assert "mine                 my rule\n" in methods
    assert "broken               cannot be loaded: method 'divides:METHOD': " in methods
    assert "RigL, Evci et al. 2020" in methods  # a built-in name is never replaced
    assert "my-net" in listed("models")
    assert "my-data" in listed("datasets")
    assert "mine" in listed("tasks")
    assert "mine/error" in listed("metrics")
    code = (
        "from spaces.presets import trial_config\n"
        "config = trial_config('mine', 'my-data', 'tiny')\n"
        "print(config.method, config.data.dataset, config.data.tasks)\n"
        "config = trial_config('rigl', 'scenes', 'tiny', overrides={'model.name': 'my-net'})\n"
        "print(config.model.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": f"{repository}:{their_things}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["mine my-data ('depth',)", "my-net"]


def task(name: str = "height", **changed: object) -> TaskDescription:
    metric = Metric(name=f"{name}/error", unit="m", direction="minimize", description="x")
    facts = {
        "summary": "",
        "implementation": "a:B",
        "metrics": (metric,),
        "primary": metric.name,
        "channels": 1,
        "kind": "values",
    }
    return TaskDescription(name=name, **(facts | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"name": "a/b"}, "made of letters, digits"),
        ({"name": "cost"}, "be none of image, frame"),
        ({"target": "image"}, "the target of a task must be"),
        ({"kind": "sounds"}, "unknown `kind` of task 'height': 'sounds'; valid: depth, labels"),
        ({"channels": 0}, "must be a number of at least 1 or 'classes', got 0"),
        ({"primary": "height/erorr"}, "Did you mean 'height/error'"),
        (
            {"metrics": (Metric(name="error", unit="", direction="minimize", description=""),)},
            "every metric of task 'height' must be named height/…, got 'error'",
        ),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(facts: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(**facts)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (task("depth"), "task names must be unique, got 'depth' of a:B beside that of trainables"),
        (task("slope", target="depth"), "got 'values' of task 'slope' for 'depth', which task"),
    ],
)
def test_tasks_that_clash_are_refused(other: TaskDescription, message: str) -> None:
    with pytest.raises(UserError, match=message):
        remember(other)


def test_an_implementation_must_be_a_rule() -> None:
    from trainables.sparsity.catalogue import load_method

    described = MethodDescription(name="m", summary="", implementation="json:loads")
    with pytest.raises(UserError, match=r"must be a subclass of .*Method, got json:loads"):
        load_method(described)
    number = MethodDescription(name="m", summary="", implementation="sys:maxsize")
    with pytest.raises(UserError, match="must be callable, got int"):
        load_method(number)
