"""What tests of a study share: the demo's plan, its record, and a ledger over it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from search.plans.plan import Plan
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from search.record.draws import sampler_of
from search.record.ledger import Ledger
from search.record.storage import StudyRecord
from search.record.warm_start import WarmTrial
from trainables.report import describe

DEMO = dataclasses.replace(get_recipe("demo"), scheduler="pareto-asha")
MEMORY = "sqlite://"


def plan_of(**arguments: Any) -> Plan:
    """The demo's plan with early stopping, of a study named `s` unless `study` says otherwise."""
    return make_plan(DEMO, **{"study": "s", **arguments})


def record_of(plan: Plan, address: str = MEMORY) -> StudyRecord:
    """Create or load the record of a plan's study; in memory it is a new one every time."""
    directions = {name: describe(name).direction for name in plan.objectives}
    return StudyRecord.create(address, plan.study, directions)


def ledger_of(plan: Plan, address: str = MEMORY, *, warm: Sequence[WarmTrial] = ()) -> Ledger:
    """A new driver's ledger over the record at an address."""
    return driver_of(plan, record_of(plan, address), warm=warm)


def driver_of(plan: Plan, record: StudyRecord, *, warm: Sequence[WarmTrial] = ()) -> Ledger:
    """A new driver's ledger over a record that is open."""
    return Ledger(plan, record, sampler_of(plan), warm=warm)
