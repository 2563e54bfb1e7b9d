"""A trial is what it was when it was handed out, whatever presets and recipes have become since."""

import json
from pathlib import Path

import pytest

from search.plans.description import describe_study, plan_from_description
from search.plans.plan import Plan
from search.record.ledger import Ledger
from search.record.outcomes import Outcome
from spaces import presets
from tests.search import studies
from tests.search.studies import driver_of, record_of
from trainables.config import TrialConfig


def change_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later release has another batch size and other channels."""
    monkeypatch.setitem(presets._TRAINING["tiny"], "batch_size", 16)
    monkeypatch.setitem(presets._MODELS["tiny"], "width", 10)


def restarted(plan: Plan, **changes: object) -> Plan:
    """The plan of a later driver, from what `study.json` says."""
    known = json.loads(json.dumps(describe_study(plan, {})))
    return plan_from_description(known | changes)


def configurations(ledger: Ledger, count: int) -> list[TrialConfig]:
    found = []
    for _ in range(count):
        assignment = ledger.next()
        assert assignment is not None
        found.append(assignment.config)
    return found


@pytest.mark.parametrize("by_description", [False, True])
def test_an_interrupted_trial_is_resumed_with_the_configuration_that_is_recorded(
    monkeypatch: pytest.MonkeyPatch, by_description: bool
) -> None:
    """Even by a driver whose plan would give another."""
    plan = studies.plan_of(trials=9)
    record = record_of(plan)
    before = configurations(driver_of(plan, record), 9)
    again = restarted(plan) if by_description else plan
    change_presets(monkeypatch)
    assert studies.plan_of().config({"method": "snip"}, 0).training.batch_size == 16
    ledger = driver_of(again, record)
    after = configurations(ledger, 9)
    assert after == before
    assert [config.to_dict() for config in after] == [
        trial.user_attrs["config"] for trial in record.trials()
    ]
    assert ledger.next() is None


def test_new_trials_of_a_resumed_study_are_like_its_first(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = studies.plan_of(trials=12, sampler="random")
    whole = configurations(driver_of(plan, record_of(plan)), 12)
    record = record_of(plan)
    known = describe_study(plan, {})
    assert configurations(driver_of(plan, record), 7) == whole[:7]
    change_presets(monkeypatch)
    resumed = plan_from_description(json.loads(json.dumps(known)))
    assert configurations(driver_of(resumed, record), 12) == whole


def test_data_that_was_moved_is_found_by_interrupted_trials_too() -> None:
    plan = studies.plan_of(trials=3, data_root="/before")
    record = record_of(plan)
    before = configurations(driver_of(plan, record), 3)
    moved = restarted(plan, data_root="/after")
    after = configurations(driver_of(moved, record), 3)
    assert [config.data.root for config in after] == ["/after"] * 3
    assert [c.replace({"data.root": "/before"}) for c in after] == before


def test_every_trial_is_compared_with_the_dense_one_that_was_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = studies.plan_of(trials=9)
    record = record_of(plan)
    first = driver_of(plan, record)
    dense, sparse, *_ = configurations(first, 3)
    assert dense.method == "dense"
    assert first.baseline(sparse) == dense
    change_presets(monkeypatch)
    ledger = driver_of(plan, record)
    assert ledger.baseline(sparse) == dense
    replicate = sparse.replace({"seed": 7})
    assert ledger.baseline(replicate) == dense.replace({"seed": 7})


def test_a_study_without_a_dense_reference_compares_with_none() -> None:
    plan = studies.plan_of(trials=2, overrides={"method": "snip"})
    ledger = driver_of(plan, record_of(plan))
    (config,) = configurations(ledger, 1)
    assert ledger.baseline(config) is None


def test_what_a_trial_was_given_is_in_the_record_whole(tmp_path: Path) -> None:
    plan = studies.plan_of(trials=2, seed=5)
    record = record_of(plan, f"journal:///{tmp_path / 'o.journal'}")
    ledger = driver_of(plan, record)
    for number in range(2):
        assignment = ledger.next()
        assert assignment is not None
        given = record.trials()[number].user_attrs
        flat = assignment.config.flat()
        assert given["params"] == {name: flat[name] for name in given["params"]}
        assert given["seed"] == assignment.config.seed == 5
        assert given["reference"] == assignment.reference == (number == 0)
        assert TrialConfig.from_dict(given["config"]) == assignment.config
        assert "status" not in given
        outcome = Outcome(status="failed", reason="why", metrics={"cost/x": 1.0}, fraction=0.5)
        ledger.finish(number, outcome)
        ended = record.trials()[number].user_attrs
        assert {k: v for k, v in ended.items() if k in given} == given
        assert (ended["status"], ended["reason"], ended["fraction"]) == ("failed", "why", 0.5)
        assert ended["metrics"] == {"cost/x": 1.0}
