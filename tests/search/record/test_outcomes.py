"""What the last result of a trial amounts to; see `search.record.outcomes`."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.record.outcomes import judge

OBJECTIVES = ("val/segmentation/miou", "cost/density")


def result(**changes: Any) -> dict[str, Any]:
    values = {
        "val/segmentation/miou": 0.5,
        "cost/density": 0.1,
        "training/step": 10,
        "training/fraction": 1.0,
        "status": "complete",
        "done": True,
        "config/name": "x",
        "pid": 3,
    }
    return {k: v for k, v in {**values, **changes}.items() if v is not ...}


@pytest.mark.parametrize(
    ("given_result", "error", "status", "reason"),
    [
        (result(), None, "complete", ""),
        (result(**{"cost/density": math.nan}), None, "failed", "cost/density=nan"),
        (result(**{"cost/density": math.inf}), None, "failed", "cost/density=inf"),
        (result(**{"cost/density": ...}), None, "failed", "cost/density=missing"),
        (result(**{"cost/density": "0.1"}), None, "failed", "cost/density"),
        (result(status="failed", reason="loss is nan"), None, "failed", "loss is nan"),
        (result(status="failed"), None, "failed", "no reason"),
        # Tune sets `done` when a scheduler stops a trial.
        (result(status="running", **{"training/fraction": 0.4}), None, "stopped", "40%"),
        (result(status="complete", **{"training/fraction": 0.4}), None, "failed", "40%"),
        (result(), "killed", "failed", "killed"),
        (None, "killed", "failed", "killed"),
    ],
)
def test_judge(given_result: Any, error: str | None, status: str, reason: str) -> None:
    outcome = judge(given_result, OBJECTIVES, error=error)
    assert outcome is not None
    assert outcome.status == status
    assert reason in outcome.reason
    assert not {"pid", "config/name"} & set(outcome.metrics)


def test_no_result_and_no_error_is_not_an_outcome() -> None:
    assert judge(None, OBJECTIVES) is None


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*OBJECTIVES, "status", "done", "training/fraction", "reason"]),
        st.one_of(st.floats(allow_subnormal=False), st.booleans(), st.none(), st.text(max_size=5)),
    )
)
def test_judge_never_raises_and_completes_only_finite_vectors(values: dict) -> None:
    outcome = judge(values, OBJECTIVES)
    assert outcome is not None
    if outcome.status == "complete":
        assert all(math.isfinite(outcome.metrics[name]) for name in OBJECTIVES)
        assert outcome.fraction >= 1.0 - 1e-9
