"""PriMO behind a process of its own: what is said to it, and what is made of its answers."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.search import pausing
from benchmarks.search.__main__ import app
from benchmarks.search.pausing import PausingSystem, simulate_with_pauses
from benchmarks.search.runs import CONCURRENCY, Job
from benchmarks.search.systems import primo
from benchmarks.search.systems.catalogue import PRIMO, SYSTEMS
from benchmarks.search.systems.primo import PriMO, described_parameters, environment_problem
from benchmarks.search.workloads.surrogates import get_surrogate
from benchmarks.search.workloads.workload import Report
from spaces.space import Parameter, Space, When
from tests.benchmarks.search.yahpo_data import needs_yahpo
from trainables.errors import UserError

needs_neps = pytest.mark.skipif(
    environment_problem() is not None, reason=str(environment_problem())
)

SPACE = Space(
    name="toy",
    doc="",
    parameters=(
        Parameter(name="rate", kind="float", doc="", default=0.1, low=1e-3, high=1.0, log=True),
        Parameter(name="num.layers", kind="int", doc="", default=2, low=1, high=5),
        Parameter(name="kind", kind="categorical", doc="", default="a", choices=("a", "b")),
        Parameter(
            name="width",
            kind="float",
            doc="",
            default=0.5,
            low=0.0,
            high=1.0,
            when=(When(name="kind", values=("b",)),),
        ),
        Parameter(name="fixed", kind="int", doc="", default=1, low=1, high=3),
    ),
    fixed={"fixed": 3},
)


class Toy:
    """Nine epochs; errors fall with the epochs, and rate and layers trade them off."""

    name = "toy"
    space = SPACE
    num_objectives = 2
    num_epochs = 9
    constrained = False

    def start(self, params: dict[str, float], seed: int) -> "Training":
        assert params["fixed"] == 3
        assert ("width" in params) == (params["kind"] == "b")
        assert 1e-3 <= params["rate"] <= 1.0 + 1e-12
        assert params["num.layers"] in range(1, 6)
        return Training(params)


class Training:
    def __init__(self, params: dict[str, float]) -> None:
        self.params, self.epoch = params, 0

    def next_report(self) -> Report:
        self.epoch += 1
        values = (
            self.params["rate"] + self.params.get("width", 0.0) + 1 / self.epoch,
            1.0 - self.params["rate"] + self.params["num.layers"],
        )
        return Report(epoch=self.epoch, fraction=self.epoch / 9, values=values, worth=values)


# Answers as the real one does, from a script: trial b goes on, and is then complete.
SCRIPTED = """
import json, sys
described = json.loads(sys.stdin.readline())
steps = [("1_rung_0", None, 1), ("2_rung_0", None, 1), ("2_rung_1", "2_rung_0", 3),
         ("2_rung_2", "2_rung_1", 9), ("3", None, 9), ("4", None, 9)]
params = {"rate": 0.5, "num.layers": 2, "kind": "b", "width": 0.25}
seconds, told, asked = 0.0, [], []
print(json.dumps({"ready": True, "seconds": seconds}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    seconds += 0.5
    if "tell" in message:
        assert message["tell"] == asked[-1], message
        answer = {}
    else:
        name, previous, until = steps.pop(0)
        asked.append(name)
        answer = {"id": name, "previous": previous, "params": params, "until": until}
    print(json.dumps({**answer, "seconds": seconds}), flush=True)
"""
DIES = """
import json, sys
sys.stdin.readline()
print(json.dumps({"ready": True, "seconds": 0.0}), flush=True)
sys.stdin.readline()
sys.exit("the kernel is not positive definite")
"""


def scripted(tmp_path: Path, script: str) -> PriMO:
    server = tmp_path / "server.py"
    server.write_text(script)
    return PriMO(Toy(), 0, interpreter=Path(sys.executable), server=server)


def test_the_space_is_described_without_what_is_fixed() -> None:
    assert described_parameters(SPACE) == [
        {"name": "rate", "kind": "float", "low": 1e-3, "high": 1.0, "log": True},
        {"name": "num.layers", "kind": "int", "low": 1, "high": 5, "log": False},
        {"name": "kind", "kind": "categorical", "choices": ["a", "b"]},
        {"name": "width", "kind": "float", "low": 0.0, "high": 1.0, "log": False},
    ]


def test_a_promoted_trial_goes_on_and_keeps_its_number(tmp_path: Path) -> None:
    system = scripted(tmp_path, SCRIPTED)
    assert isinstance(system, PausingSystem)
    trace = simulate_with_pauses(Toy(), system, budget_epochs=20, seed=0)
    # 1 + 1 + 2 + 6 + 9 = 19, and the last trial would need nine of the one epoch that is left.
    assert [(c.number, c.epochs) for c in trace.completions] == [(1, 10), (2, 19)]
    assert trace.stopped_epochs == (1,)
    assert trace.num_trials == 4
    assert trace.thinking_seconds == (0.5, 3.0, 1.0, 1.0)


def test_a_server_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    system = scripted(tmp_path, DIES)
    with pytest.raises(UserError, match=r"status 1 .*make peers-primo.*not positive definite"):
        simulate_with_pauses(Toy(), system, budget_epochs=20, seed=0)
    with pytest.raises(UserError, match=r"status 3 .* nothing"):
        scripted(tmp_path, "raise SystemExit(3)")


def test_objectives_are_told_on_the_scale_of_the_score(tmp_path: Path) -> None:
    """The ideal becomes 0 and the nadir 1: PriMO adds objectives up."""
    told: list[dict[str, object]] = []
    workload = get_surrogate("parallel")
    server = tmp_path / "server.py"
    server.write_text(SCRIPTED)
    system = PriMO(workload, 0, interpreter=Path(sys.executable), server=server)
    system._call = lambda message: told.append(dict(message)) or {}  # type: ignore[assignment,func-returns-value,method-assign]
    system._names[0] = "1_rung_0"
    for values in (workload.normalisation.ideal, workload.normalisation.nadir):
        system.tell(0, Report(epoch=1, fraction=0.1, values=values, worth=values))
    system.close()
    assert [message["values"] for message in told] == [
        pytest.approx([0.0, 0.0]),
        pytest.approx([1.0, 1.0]),
    ]


@needs_neps
@pytest.mark.slow  # its libraries take seconds to import
def test_primo_pauses_promotes_and_then_trains_at_full_length() -> None:
    # Its first phase is as long as four full lengths by its own count, which counts the epochs of
    # a promoted trial anew: six trials, of which four reach epoch 3 and two the end.
    trace = simulate_with_pauses(Toy(), PriMO(Toy(), 0), budget_epochs=45, seed=0)
    assert sorted(trace.stopped_epochs) == [1, 1, 3, 3]
    assert len(trace.completions) == 4
    assert [c.number for c in trace.completions[2:]] == [6, 7]
    assert [c.epochs for c in trace.completions[2:]] == [35, 44]
    assert trace.num_trials == 9  # the last was begun with one epoch left
    assert all(seconds > 0 for seconds in trace.thinking_seconds)


def test_one_worker_and_only_tasks_that_others_wrote() -> None:
    assert SYSTEMS[PRIMO].concurrency == 1
    assert Job.of("parallel", PRIMO, 0).concurrency == 1
    assert Job.of("parallel", "ours", 0).concurrency == CONCURRENCY
    assert Job.of("parallel", "one-worker", 0).concurrency == 1
    modules = {module.rpartition(".")[2] for module in SYSTEMS[PRIMO].modules}
    assert modules == {"primo", "primo_server"}
    assert pausing.__name__ not in SYSTEMS["ours"].modules


def test_the_version_that_results_are_kept_for_is_the_one_that_is_installed() -> None:
    pins = Path(primo.__file__).with_name("neps-constraints.txt").read_text().splitlines()
    assert f"neural-pipeline-search=={primo.VERSION}" in pins


@pytest.fixture
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = primo._REPOSITORY / "runs" / "none" / "bin" / "python"
    monkeypatch.setattr(primo, "INTERPRETER", nowhere)


@pytest.mark.usefixtures("_no_environment")
def test_without_its_environment_the_make_target_is_named() -> None:
    with pytest.raises(
        UserError, match=r"runs/none, which is not there, or not whole: `make peers-primo` makes it"
    ):
        PriMO(Toy(), 0)


@needs_yahpo
@pytest.mark.usefixtures("_no_environment")
def test_without_its_environment_the_command_says_so(tmp_path: Path) -> None:
    asked = ["--only", "iaml_glmnet-1489-trainsize", "--systems", PRIMO, "--yahpo-seeds", "2"]
    result = CliRunner().invoke(app, [*asked, "--storage", str(tmp_path), "--out", str(tmp_path)])
    assert isinstance(result.exception, UserError)
    assert "make peers-primo" in str(result.exception)
    assert "--systems" in str(result.exception)
