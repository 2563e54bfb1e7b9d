"""The searcher that Tune asks: nothing that goes wrong in it may raise into Tune's loop."""

from typing import Any

import optuna
import pytest
from ray.tune.search import Searcher

from search.ledger import Assignment, Ledger, open_optuna
from search.plan import make_plan
from search.recipes import RECIPES
from search.sampler import LedgerSearcher
from trainables.errors import UserError


def test_a_trial_whose_setup_raises_has_failed_and_the_study_goes_on() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = make_plan(RECIPES["demo"], study="s", trials=4)
    ledger = Ledger(plan, open_optuna(plan, "sqlite://"))
    assigned: list[int] = []

    def to_config(assignment: Assignment) -> dict[str, Any]:
        if assignment.number in (1, 3):
            raise UserError("these settings do not fit")
        return {"name": assignment.name, "number": assignment.number}

    searcher = LedgerSearcher(
        ledger, to_config, on_assigned=lambda _, assignment: assigned.append(assignment.number)
    )
    given = [searcher.suggest(f"ray-{n}") for n in range(3)]
    assert [config["number"] for config in given[:2]] == assigned == [0, 2]
    assert given[2] == Searcher.FINISHED
    failed = {t.number: t.user_attrs["reason"] for t in ledger.finished()}
    reason = "the trial could not be set up: these settings do not fit"
    assert failed == {1: reason, 3: reason}
    # The trials that Tune knows end as they do otherwise.
    for trial_id in ("ray-0", "ray-1"):
        searcher.on_trial_complete(trial_id, error=True)
    assert ledger.num_remaining == 0


def test_a_disk_that_is_away_loses_no_trial() -> None:
    plan = make_plan(RECIPES["demo"], study="s", trials=2)
    study = open_optuna(plan, "sqlite://")

    def to_config(assignment: Assignment) -> dict[str, Any]:
        raise OSError("the folder is gone")

    with pytest.raises(OSError, match="gone"):
        LedgerSearcher(Ledger(plan, study), to_config).suggest("a")
    again = LedgerSearcher(Ledger(plan, study), lambda assignment: {"number": assignment.number})
    assert [again.suggest("b"), again.suggest("c")] == [{"number": 0}, {"number": 1}]
