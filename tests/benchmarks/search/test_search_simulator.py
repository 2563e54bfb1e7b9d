"""The simulator of searches: epochs are counted exactly, and nothing is left to chance."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.search import fingerprint as fingerprints
from benchmarks.search.runs import Job, load, missing, obtain, plan, run
from benchmarks.search.simulator import Trace, simulate
from benchmarks.search.systems.catalogue import SYSTEMS, get_system
from benchmarks.search.workloads.surrogates import SURROGATES
from benchmarks.search.workloads.workload import Report
from search.plans.rung_settings import RungSettings
from spaces.space import Space
from trainables.errors import UserError

EPOCHS = 9


@dataclass
class Ladder:
    """A workload whose trials report their own epoch."""

    started: list[int] = field(default_factory=list)
    name: str = "ladder"
    space: Space = SURROGATES["parallel"].space
    num_objectives: int = 2
    num_epochs: int = EPOCHS
    constrained: bool = False

    def start(self, params: Mapping[str, Any], seed: int) -> "Rungs":
        self.started.append(params["number"])
        return Rungs()


class Rungs:
    epoch = 0

    def next_report(self) -> Report:
        self.epoch += 1
        values = (float(self.epoch), 0.5)
        fraction = self.epoch / EPOCHS
        return Report(epoch=self.epoch, fraction=fraction, values=values, worth=values)


class StopsAt:
    """Stops every trial at the epoch its number asks for; writes down all that it is told."""

    def __init__(self, epochs: Mapping[int, int]) -> None:
        self.epochs = epochs
        self.reports: list[tuple[int, int]] = []
        self.ends: list[tuple[int, int, bool]] = []

    def ask(self, number: int) -> Mapping[str, Any]:
        return {"number": number}

    def keep(self, number: int, report: Report) -> bool:
        self.reports.append((number, report.epoch))
        return report.epoch != self.epochs.get(number)

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        self.ends.append((number, report.epoch, complete))


def trace_of(system: StopsAt, budget: int, concurrency: int = 1) -> Trace:
    return simulate(Ladder(), system, budget_epochs=budget, concurrency=concurrency, seed=0)


def test_one_worker_trains_one_trial_after_another_to_the_last_epoch() -> None:
    system = StopsAt({0: 2, 2: 5})
    # 2 + 9 + 5 + 9 = 25, and two epochs of a trial that counts for nothing.
    trace = trace_of(system, 27)
    assert system.ends == [(0, 2, False), (1, 9, True), (2, 5, False), (3, 9, True)]
    assert [(c.number, c.epochs) for c in trace.completions] == [(1, 11), (3, 25)]
    assert trace.stopped_epochs == (2, 5)
    assert trace.num_trials == 5


def test_the_last_report_of_a_full_length_trial_is_its_end_and_no_question() -> None:
    system = StopsAt({0: EPOCHS})
    trace_of(system, EPOCHS)
    assert system.reports == [(0, epoch) for epoch in range(1, EPOCHS)]
    assert system.ends == [(0, EPOCHS, True)]


def test_no_trial_is_begun_when_the_budget_is_used_up() -> None:
    workload = Ladder()
    simulate(workload, StopsAt({}), budget_epochs=2 * EPOCHS, concurrency=1, seed=0)
    assert workload.started == [0, 1]


@pytest.mark.parametrize("concurrency", [1, 3, 4])
@pytest.mark.parametrize("budget", [1, 26, 100])
def test_every_epoch_of_the_budget_is_used_once(budget: int, concurrency: int) -> None:
    system = StopsAt({number: 1 + number % EPOCHS for number in range(0, 100, 2)})
    trace = trace_of(system, budget, concurrency)
    ended = sum(epoch for _, epoch, _ in system.ends)
    finished = {number for number, _, _ in system.ends}
    under_way = sum(1 for number, _ in system.reports if number not in finished)
    assert ended + under_way == budget
    assert trace.num_trials - len(finished) <= concurrency


def test_thinking_is_measured_by_trial_and_does_not_tell_two_runs_apart() -> None:
    class Thinks(StopsAt):
        def ask(self, number: int) -> Mapping[str, Any]:
            busy_until = time.process_time() + 0.02 * (number == 1)
            while time.process_time() < busy_until:
                pass
            return {"number": number}

    traces = [trace_of(Thinks({}), 2 * EPOCHS) for _ in range(2)]
    assert traces[0] == traces[1]
    first, second = traces[0].thinking_seconds
    assert 0.0 <= first < 0.02 <= second


def test_workers_train_side_by_side() -> None:
    system = StopsAt({})
    trace_of(system, 3, concurrency=3)
    assert sorted(system.reports) == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize(("budget", "concurrency"), [(0, 1), (1, 0)])
def test_an_empty_budget_or_no_worker_is_refused(budget: int, concurrency: int) -> None:
    with pytest.raises(UserError, match=f"budget_epochs={budget}, concurrency={concurrency}"):
        trace_of(StopsAt({}), budget, concurrency)


def job(system: str, **changes: Any) -> Job:
    settings = {"workload": "three", "system": system, "seed": 3, "full_lengths": 8}
    return Job(**(settings | changes))


# These need packages of their own, or think for minutes.
_ELSEWHERE = ("moasha", "qlognehvi", "primo", "gp")


@pytest.mark.parametrize("system", [name for name in SYSTEMS if name not in _ELSEWHERE])
def test_every_system_repeats_itself_and_uses_up_what_it_is_given(system: str) -> None:
    first, second = run(job(system)), run(job(system))
    assert first == second
    ended = len(first.completions) * 27 + sum(first.stopped_epochs)
    assert job(system).budget_epochs - 27 * 4 <= ended <= job(system).budget_epochs
    assert first.completions


def test_full_fidelity_stops_nothing() -> None:
    for system in ("random", "optuna-search", "no-stopping"):
        assert run(job(system)).stopped_epochs == ()


def test_early_stopping_happens_at_rungs_alone() -> None:
    ours = {round(27 * milestone) for milestone in RungSettings().milestones()}
    for system, rungs in (("ours", ours), ("grace-1-9", {3, 9}), ("ray-asha", {3, 9})):
        stopped = run(job(system, full_lengths=20)).stopped_epochs
        assert stopped
        assert set(stopped) <= rungs


def test_starts_come_first_in_every_system() -> None:
    asked: dict[str, list[Mapping[str, Any]]] = {}
    workload = SURROGATES["parallel"]
    for name in ("ours", "random", "ray-asha", "optuna-search"):
        system = get_system(name).build(workload, 0, True)
        asked[name] = [dict(system.ask(number)) for number in range(6)]
    assert asked["ours"] == asked["random"] == asked["ray-asha"] == asked["optuna-search"]
    assert [p["method"] for p in asked["ours"]][:4] == list(workload.space.parameters[0].choices)
    # Spread over the middles of four equal parts of [0.5, 0.99], then the ends.
    assert [p["sparsity.target"] for p in asked["ours"]] == pytest.approx(
        [0.56125, 0.68375, 0.80625, 0.92875, 0.5, 0.99]
    )


def test_a_result_is_kept_and_read_back_as_it_was(tmp_path: Path) -> None:
    wanted = job("random")
    assert missing([wanted], tmp_path) == [wanted]
    trace = obtain(wanted, tmp_path)
    assert load(wanted, tmp_path) == trace
    assert missing([wanted], tmp_path) == []
    kept = wanted.path(tmp_path)
    kept.write_text(kept.read_text().replace('"num_trials": ', '"num_trials": 1'))
    assert obtain(wanted, tmp_path).num_trials == int(f"1{trace.num_trials}")


@pytest.mark.parametrize("content", ["", "{", '{"job": {"workload": "three"}}'])
def test_a_result_that_is_cut_short_or_of_other_settings_is_run_again(
    tmp_path: Path, content: str
) -> None:
    wanted = job("random")
    trace = obtain(wanted, tmp_path)
    wanted.path(tmp_path).write_text(content)
    assert load(wanted, tmp_path) is None
    assert load(job("random", full_lengths=13), tmp_path) is None
    assert obtain(wanted, tmp_path) == trace


def test_the_plan_has_peers_before_parts_and_only_three_systems_on_the_real_trainable() -> None:
    jobs = plan({"crossing": 2, "scenes": 1})
    roles = [SYSTEMS[j.system].role == "part" for j in jobs]
    assert roles == sorted(roles)
    assert {j.system for j in jobs if j.workload == "scenes"} == {"ours", "random", "optuna-search"}
    assert all(j.starts for j in jobs)
    assert "unconstrained" not in {j.system for j in jobs}
    assert "unconstrained" in {j.system for j in plan({"infeasible": 1})}
    with pytest.raises(UserError, match="no-such"):
        plan({"crossing": 1}, ["no-such"])


def test_a_result_of_other_code_is_run_again(tmp_path: Path) -> None:
    wanted = job("random")
    obtain(wanted, tmp_path)
    kept = wanted.path(tmp_path)
    kept.write_text(kept.read_text().replace(wanted.code, "of-another-commit"))
    assert load(wanted, tmp_path) is None


def test_ours_depends_on_the_search_and_peers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: job(name).code for name in ("ours", "grace-1-9", "random", "ray-asha")}
    assert len(set(before.values())) == 4
    actual = fingerprints._code
    monkeypatch.setattr(
        fingerprints,
        "_code",
        lambda module: actual(module) + "x" * (module == "search.schedulers.rungs"),
    )
    changed = {name: job(name).code != code for name, code in before.items()}
    assert changed == {"ours": True, "grace-1-9": True, "random": False, "ray-asha": False}
