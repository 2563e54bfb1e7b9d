"""What `--prior` takes, and that it is part of what a study is."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.plans.description import describe_study, differences, plan_from_description
from search.plans.prior_settings import PriorSettings, parse_prior, prior_text
from spaces.space import Parameter, Space, When
from tests.search.studies import plan_of
from trainables.errors import UserError

RATE = "optimiser.learning_rate"
SPACE = Space(
    name="test",
    doc="every kind",
    parameters=(
        Parameter(name="kind", kind="categorical", choices=("a", "b"), default="a", doc=""),
        Parameter(name="flag", kind="categorical", choices=(True, False), default=True, doc=""),
        Parameter(name="x", kind="float", low=0.0, high=1.0, default=0.5, doc=""),
        Parameter(
            name="steps",
            kind="int",
            low=1,
            high=64,
            log=True,
            default=8,
            when=(When(name="kind", values=("b",)),),
            doc="",
        ),
    ),
    fixed={},
)


def test_values_have_the_parameter_s_type_and_the_rest_are_studies() -> None:
    items = ["x=2.5e-1", "kind = b", "flag=False", "steps=4", "demo", "/runs/a=b/old"]
    prior = parse_prior(items, SPACE, {})
    assert dict(prior.values) == {"x": 0.25, "kind": "b", "flag": False, "steps": 4}
    assert [type(v) for v in prior.values.values()] == [float, str, bool, int]
    assert prior.studies == ("demo", "/runs/a=b/old")
    assert prior
    assert not parse_prior([], SPACE, {})
    said = prior_text(prior.to_json())
    assert said == "demo, /runs/a=b/old, x=0.25, kind=b, flag=False, steps=4"
    assert prior_text(None) == ""


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000).map(lambda k: k / 1000), st.integers(1, 64), st.sampled_from("ab"))
def test_a_prior_outlives_its_description(x: float, steps: int, kind: str) -> None:
    prior = parse_prior([f"x={x!r}", f"steps={steps}", f"kind={kind}", "demo"], SPACE, {})
    assert PriorSettings.from_json(json.loads(json.dumps(prior.to_json()))) == prior
    assert prior.values == {"x": x, "steps": steps, "kind": kind}


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["rate=1"], r"unknown parameter of a prior in the space 'test' 'rate'; valid: flag, kind"),
        (["x=1.5"], r"`--prior x` must lie in what is drawn, \[0, 1\], got '1.5'; name a value"),
        (["x=nan"], r"got 'nan'"),
        (["x=much"], r"got 'much'"),
        (["x="], r"got ''"),
        (["steps=2.5"], r"`--prior steps` must lie in what is drawn, \[1, 64\] log, got '2.5'"),
        (["kind=c"], r"`--prior kind` must lie in what is drawn, {a, b}, got 'c'"),
        (["x=0.1", "x=0.2"], r"must name a parameter once, got x twice; leave one out"),
        (["lr=3", ""], r"unknown parameter"),
        ([""], r"must be NAME=VALUE or a study, got nothing"),
    ],
)
def test_mistakes(items: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_prior(items, SPACE, {})


def test_a_parameter_that_is_fixed_is_a_mistake() -> None:
    with pytest.raises(UserError, match=r"that is drawn, got one that is fixed at 0.01; leave it"):
        plan_of(prior=[f"{RATE}=0.001"], overrides={RATE: "0.01"})


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([], [f"{RATE}=3e-3"], rf"prior.values.{RATE} was None, is now 0.003"),
        ([f"{RATE}=3e-3"], [f"{RATE}=2e-3"], rf"prior.values.{RATE} was 0.003, is now 0.002"),
        (["old"], [], r"prior.studies was \['old'\], is now \[\]"),
        ([f"{RATE}=0.003"], [f"{RATE}=3e-3"], None),
    ],
)
def test_a_study_is_told_from_others_by_its_prior(
    first: list[str], second: list[str], message: str | None
) -> None:
    known: dict[str, Any] = json.loads(json.dumps(describe_study(plan_of(prior=first), {})))
    found = differences(plan_of(prior=second), known)
    assert plan_from_description(known).prior == plan_of(prior=first).prior
    if message is None:
        assert found == []
    else:
        (said,) = found
        assert re.search(message, said), said


def test_a_study_that_is_older_than_priors_has_none() -> None:
    known = json.loads(json.dumps(describe_study(plan_of(), {})))
    del known["prior"]
    assert differences(plan_of(), known) == []
    assert not plan_from_description(known).prior
