"""A grid of baselines in the record: every trial handed out once, and the table of its systems."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from search.plans.limits.budget import Budget
from search.record.files.trials_table import write_trials
from search.record.ledger import Ledger
from search.record.outcomes import Outcome
from tests.search.plans.small_grid import REFUSED, cells_of, small
from tests.search.studies import driver_of, record_of


def finish_all(ledger: Ledger, seen: list[tuple[int, str, int]]) -> None:
    while (assignment := ledger.next()) is not None:
        config = assignment.config
        seen.append((assignment.number, config.method, config.seed))
        metrics = {name: 1.0 for name in ledger.plan.objectives}
        metrics["test/segmentation/miou"] = float(assignment.number)
        ledger.finish(
            assignment.number,
            Outcome(status="complete", reason="", metrics=metrics, fraction=1.0),
        )


def test_a_ledger_hands_out_the_grid_whatever_it_is_told_in_between(tmp_path: Path) -> None:
    """A refused combination is a failed trial with its reason; a restart changes nothing."""
    plan = small(
        methods=("dense", "lth", "snip"),
        sparsities=(0.9,),
        seed=4,
    )
    assert plan.grid is not None
    dense, lth, snip = plan.grid.systems
    refused_lth = replace(lth, settings=REFUSED)
    grid = replace(plan.grid, systems=(dense, lth, refused_lth, snip))
    plan = replace(plan, grid=grid, budget=Budget(trials=8))
    record = record_of(plan)
    ledger = driver_of(plan, record)
    for _ in range(2):
        assert ledger.next() is not None  # handed out, then the driver dies
    seen: list[tuple[int, str, int]] = []
    finish_all(driver_of(plan, record), seen)
    expected = cells_of(plan)
    assert len(expected) == plan.budget.trials == 8
    refused = [n for n, s in enumerate(plan.starts()) if "sparsity.schedule" in s.pins]
    assert sorted(seen) == [
        (n, method, seed) for n, (seed, method, _) in enumerate(expected) if n not in refused
    ]
    path = tmp_path / "trials.parquet"
    write_trials(path, plan.study, record.trials())
    rows = pq.read_table(path).to_pylist()
    assert [(r["seed"], r["method"], r["params/sparsity.target"]) for r in rows] == expected
    assert Counter(r["status"] for r in rows) == {"complete": 6, "failed": 2}
    assert all("`lth` needs `sparsity.schedule`" in rows[n]["reason"] for n in refused)
    for row in rows:
        if row["status"] == "complete":
            assert row["params/training.steps"] + row["params/training.pretrain_steps"] == 200
