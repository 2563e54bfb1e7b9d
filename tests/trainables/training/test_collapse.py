"""A layer without any weight left is said in the terminal, once, with what it does."""

import pytest

from tests.trainables.training.conftest import TrialFactory
from tests.trainables.training.runs import finish
from trainables.training.summary import collapsed_layers
from trainables.training.trial import TrialRun


def layer(kept: int, total: int) -> dict[str, int | str]:
    return {"kept": kept, "total": total, "owner": "shared"}


def test_worked_cases() -> None:
    whole = {"stem": layer(1, 10), "head": layer(9, 9), "nothing": layer(0, 0)}
    assert collapsed_layers(whole) == ""
    assert collapsed_layers({}) == ""
    said = collapsed_layers({**whole, "middle": layer(0, 5)})
    assert said.startswith("1 layer has no weight left (middle): its output is constant, so what ")
    assert "lower sparsity.target" in said
    said = collapsed_layers({"a": layer(0, 5), "b": layer(2, 5), "c": layer(0, 3)})
    assert said.startswith("2 layers have no weight left (a, c): their outputs are constant")


def test_a_trial_that_loses_layers_says_so_once(
    small_trial: TrialFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run = TrialRun(small_trial("snip", {"sparsity.target": 0.999}), device="cpu")
    finish(run)
    empty = [n for n, found in run.registry.layers().items() if not found["kept"]]
    assert empty
    warnings = [w for w in capsys.readouterr().err.splitlines() if w.startswith("warning: ")]
    assert len(warnings) == 1
    assert f"at step 0, {len(empty)} layer" in warnings[0]
    assert all(name in warnings[0] for name in empty)


def test_a_trial_that_keeps_its_layers_says_nothing(
    small_trial: TrialFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(TrialRun(small_trial("random", {"sparsity.target": 0.5}), device="cpu"))
    assert "warning" not in capsys.readouterr().err
