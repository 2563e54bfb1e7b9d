"""Which trials are confirmed, at which seeds, and that nothing else of the study changes."""

from pathlib import Path

import numpy as np
import pytest
from optuna.trial import FrozenTrial, create_trial

from search.plans.plan import Plan
from search.record.confirmations import noise_of
from search.record.front import CONFIRMS, is_confirmation
from search.record.ledger import Assignment, Ledger
from search.record.outcomes import Outcome
from search.record.repeats import repeats_of, settings_by_number
from tests.search import studies
from tests.search.studies import driver_of, ledger_of, record_of
from trainables.errors import UserError
from trainables.terminal.as_typed import python

MIOU = "val/segmentation/miou"


def plan_of(trials: int = 8, sampler: str = "random") -> Plan:
    # One task: the front is then as short as it is in life.
    return studies.plan_of(trials=trials, sampler=sampler, overrides={"data.tasks": "segmentation"})


def outcome(plan: Plan, assignment: Assignment, noise: float = 0.0) -> Outcome:
    """Random masks are worst; at another seed the quality moves by at most `noise`."""
    density = 1.0 - assignment.config.sparsity.target
    generator = np.random.default_rng([assignment.config.seed, assignment.number])
    quality = density**0.5 - 0.1 * (assignment.config.method == "random")
    moved = quality + noise * float(generator.uniform(-1, 1)) * bool(assignment.config.seed)
    metrics = {MIOU: moved, "cost/density": density}
    return Outcome(status="complete", reason="", metrics=metrics, fraction=1.0)


def run_all(ledger: Ledger, limit: int = 1000, noise: float = 0.0) -> list[Assignment]:
    assignments: list[Assignment] = []
    while len(assignments) < limit and (assignment := ledger.next()) is not None:
        assignments.append(assignment)
        ledger.finish(assignment.number, outcome(ledger.plan, assignment, noise))
    return assignments


def confirmed(ledger: Ledger, repeats: list[Assignment]) -> set[int]:
    """The numbers of the trials that these repeat."""
    return {ledger.trials()[a.number].user_attrs[CONFIRMS] for a in repeats}


def test_members_and_the_dense_reference_at_the_same_fresh_seeds() -> None:
    plan = plan_of()
    ledger = ledger_of(plan)
    own = run_all(ledger)
    front = ledger.front()
    said = ledger.confirm(3)
    assert f"confirms the front at 3 fresh seeds: {3 * len({*front, 0})} trainings" in said
    assert ledger.num_remaining == 3 * len({*front, 0})
    repeats = run_all(ledger)
    assert [a.number for a in repeats] == list(range(8, 8 + len(repeats)))
    assert all(a.reference for a in repeats)  # never stopped, never compared with
    trials = ledger.trials()
    pairs = [(t.user_attrs[CONFIRMS], t.user_attrs["seed"]) for t in trials[8:]]
    seeds = list(dict.fromkeys(seed for _, seed in pairs))
    # Seed by seed: an interrupted confirmation compares all members at fewer seeds.
    assert pairs == [(n, seed) for seed in seeds for n in sorted({*front, 0})]
    assert len(seeds) == 3
    assert {a.config.seed for a in own}.isdisjoint(seeds)
    for assignment, (number, seed) in zip(repeats, pairs, strict=True):
        assert assignment.config == own[number].config.replace({"seed": seed})
    # Nothing of the study has changed, here or for the next driver. Without noise nobody is near.
    for each in (ledger, driver_of(plan, ledger.record)):
        assert each.front() == front
        assert (each.num_asked, each.num_finished, each.used) == (8, 8, 8)
        assert each.num_remaining == 0
        assert each.confirm(3) == ""
        assert each.next() is None


@pytest.mark.parametrize("sampler", ["random", "curves", "tpe"])
def test_a_study_extends_after_it_was_confirmed_as_it_would_have_before(sampler: str) -> None:
    drawn = []
    for confirmed in (False, True):
        ledger = ledger_of(plan_of(8, sampler))
        run_all(ledger)
        if confirmed:
            ledger.confirm(2)
            run_all(ledger)
        longer = driver_of(plan_of(12, sampler), ledger.record)
        more = run_all(longer)
        assert len(more) == 4
        numbers = [a.number for a in more]
        assert numbers == list(range(len(longer.trials()) - 4, len(longer.trials())))
        assert longer.num_remaining == 0
        drawn.append([a.config for a in more])
    assert drawn[0] == drawn[1]


def test_a_killed_driver_doubles_nothing(tmp_path: Path) -> None:
    plan, address = plan_of(), f"journal:///{tmp_path / 'optuna.journal'}"
    run_all(ledger_of(plan, address))
    first = ledger_of(plan, address)
    first.confirm(3)
    run_all(first, limit=2)
    lost = first.next()  # and the driver is killed
    assert lost is not None
    second = ledger_of(plan, address)
    total = second.num_remaining
    assert total == 1  # without being told, a driver ends what was begun
    said = second.confirm(3)
    assert f" {second.num_remaining} trainings of trials" in said
    assert second.num_remaining == first.num_remaining  # as the end of the first one would say
    resumed = second.next()
    assert resumed is not None
    assert (resumed.number, resumed.config, resumed.resumed) == (lost.number, lost.config, True)
    second.finish(resumed.number, outcome(plan, resumed))
    run_all(second)
    pairs = [
        (t.user_attrs[CONFIRMS], t.user_attrs["seed"])
        for t in ledger_of(plan, address).trials()
        if is_confirmation(t)
    ]
    assert len(pairs) == len(set(pairs)) == 3 * len({n for n, _ in pairs})


def test_neighbours_follow_when_the_front_has_told_the_noise() -> None:
    ledger = ledger_of(plan_of(14))
    run_all(ledger)
    front = set(ledger.front())
    members = front | {0}
    more = f"then up to {3 * len(front)} of trials that noise may have kept off it"
    assert more in ledger.confirm(3)
    repeats = run_all(ledger, limit=ledger.num_remaining - 1, noise=0.2)
    assert confirmed(ledger, repeats) == members
    last = ledger.next()
    assert last is not None
    # One of them is still at work: what the noise is, is not known yet.
    resumed = driver_of(ledger.plan, ledger.record)
    assert " confirms the front at 3 fresh seeds: 1 training of trial " in resumed.confirm(3)
    assert resumed.num_remaining == 1
    ledger.finish(last.number, outcome(ledger.plan, last, 0.2))
    said = ledger.confirm(3)
    assert "what noise may have kept off the front" in said
    assert "then up to" not in said
    # With one of them begun, the others are still due.
    due, begun = ledger.num_remaining, ledger.next()
    assert begun is not None
    resumed = driver_of(ledger.plan, ledger.record)
    assert f" at 3 fresh seeds: {due} trainings of trial" in resumed.confirm(3)
    assert resumed.num_remaining == due > 1
    ledger.finish(begun.number, outcome(ledger.plan, begun, 0.2))
    neighbours = confirmed(ledger, [begun, *run_all(ledger, noise=0.2)])
    assert neighbours
    assert neighbours.isdisjoint(members)
    assert len(neighbours) <= len(front)
    # Their own noise counts for nothing, so the same trials are asked for again: none is left.
    assert ledger.confirm(3) == ""
    assert ledger.num_remaining == 0


def repeat_of(template: FrozenTrial, number: int, value: float) -> FrozenTrial:
    trial = create_trial(values=[value, 0.5], user_attrs=dict(template.user_attrs))
    trial.number = number
    trial.user_attrs |= {"seed": number, CONFIRMS: template.number}
    return trial


def test_the_noise_is_pooled_over_configurations() -> None:
    """Two configurations, (1, 3) and (5, 5, 8): squares 2 and 6, over 1 + 2 degrees of freedom."""
    ledger = ledger_of(plan_of())
    run_all(ledger)
    trials = ledger.trials()
    repeats = [repeat_of(trials[1], 10 + at, value) for at, value in enumerate((1.0, 3.0))]
    repeats += [repeat_of(trials[2], 20 + at, value) for at, value in enumerate((5.0, 5.0, 8.0))]
    settings = settings_by_number([*trials, *repeats])
    found = noise_of(repeats, ledger.plan.objectives, settings)
    assert found == pytest.approx([(8 / 3) ** 0.5, 0.0])
    assert noise_of([], ledger.plan.objectives, settings) == [0.0, 0.0]


def test_what_was_trained_again_is_known_by_its_settings() -> None:
    """A replicate shares the trainings; refused trials share nothing; one at work has not ended."""
    given = [
        {"config": {"method": "snip", "seed": 0}, "status": "complete"},
        {"config": {"method": "snip", "seed": 1}, "status": "complete"},  # its replicate
        {"config": {"method": "rigl", "seed": 0}, "status": "complete"},
        {"status": "failed"},  # two that were refused
        {"status": "failed"},
        # Recorded by a release whose configurations have one field more.
        {"config": {"method": "snip", "seed": 7, "new": 1}, "status": "complete", CONFIRMS: 0},
        {"config": {"method": "snip", "seed": 8}, "status": "failed", CONFIRMS: 1},
        {"config": {"method": "snip", "seed": 9}, CONFIRMS: 0},  # at work
    ]
    trials = []
    for number, attributes in enumerate(given):
        trials.append(create_trial(values=[0.0], user_attrs=attributes))
        trials[-1].number = number
    settings = settings_by_number(trials)
    groups = [{n for n in settings if settings[n] == text} for text in settings.values()]
    snip = {0, 1, 5, 6, 7}
    assert groups == [snip, snip, {2}, {3}, {4}, snip, snip, snip]
    found = {number: [t.number for t in again] for number, again in repeats_of(trials).items()}
    assert found == {0: [5, 6], 1: [5, 6]}


def test_a_study_that_has_not_ended_or_has_no_front_is_refused() -> None:
    ledger = ledger_of(plan_of())
    run_all(ledger, limit=3)
    with pytest.raises(UserError, match="have ended, got 's' with 3 of 8 trials used") as not_ended:
        ledger.confirm(5, "/mnt/runs")
    assert f"`{python()} -m search resume s --storage /mnt/runs`" in str(not_ended.value)
    empty = ledger_of(plan_of(2))
    while (assignment := empty.next()) is not None:
        failed = Outcome(status="failed", reason="no memory", metrics={}, fraction=0.0)
        empty.finish(assignment.number, failed)
    with pytest.raises(UserError, match="must have a front, got 's' with no complete") as no_front:
        empty.confirm(5, "/mnt/runs")
    more = f"`{python()} -m search extend s --storage /mnt/runs --trials MORE`"
    assert more in str(no_front.value)


def test_a_confirmation_that_fails_is_not_tried_again() -> None:
    ledger = ledger_of(plan_of())
    run_all(ledger)
    ledger.confirm(2)
    while (assignment := ledger.next()) is not None:
        failed = Outcome(status="failed", reason="no memory", metrics={}, fraction=0.0)
        ledger.finish(assignment.number, failed)
    assert ledger.confirm(2) == ""
    assert record_of(plan_of()).num_trials() == 0  # another record
    assert all(t.state.is_finished() for t in ledger.record.trials())
