"""What fresh seeds hold against a model is said wherever it is offered."""

import json
from collections.abc import Callable, Sequence

import pyarrow.parquet as pq
import pytest

from analysis.report import figures
from analysis.report.report import render
from analysis.report.sections import confirmed_tables, health, take
from analysis.statistics.uncertainty.confirmed import confirmations, fresh_seeds
from analysis.studies.trials import load_study
from analysis.tables import plain_choices, plain_words
from tests.analysis.built_studies import BuiltStudy, Row, confirming, simple_row
from tests.analysis.test_command_line import run

TASKS = ("segmentation",)
MIOU = "val/segmentation/miou"
REASON = "loss became NaN at step 212"
Record = Callable[..., BuiltStudy]


def members() -> list[Row]:
    """Two sparse ones, of which the cheaper loses 3 % and the other 0.2 %."""
    return [
        simple_row(0, "dense", 1.0, 0.500),
        simple_row(1, "snip", 0.3, 0.499),
        simple_row(2, "rigl", 0.2, 0.485),
    ]


def at_fresh_seeds(rows: Sequence[Row], num_seeds: int) -> list[Row]:
    """Return the rows and then, seed by seed, each of them again with the same values."""
    made = list(rows)
    for place in range(num_seeds):
        made += [confirming(row, len(made) + n, 900 + place, 0.0) for n, row in enumerate(rows)]
    return made


def and_one_more(rows: Sequence[Row]) -> list[Row]:
    """Add a member of the front that was found after `confirm`: choices are by values at selection
    as long as it is not trained again."""
    return [*rows, simple_row(len(rows), "set", 0.15, 0.400)]


def fail(rows: Sequence[Row], number: int, count: int, status: str = "failed") -> None:
    """Let the first `count` fresh trainings of a trial end badly."""
    for row in [row for row in rows if row.confirms == number][:count]:
        row.status, row.reason = status, REASON
        row.metrics = dict.fromkeys(row.metrics, float("nan")) if status == "complete" else {}


def found_in(built: BuiltStudy) -> figures.Findings:
    study = load_study(built.name, built.storage)
    return figures.find(study, with_masks=False, with_importances=False, with_predictions=False)


def choice(found: figures.Findings, trial: str) -> plain_choices.PlainChoice:
    every = plain_choices.choices(found.study)
    return next(one for one in every if one.pick and one.pick.trial.trial == trial)


@pytest.mark.parametrize("status", ["failed", "stopped"])
@pytest.mark.parametrize(
    ("count", "sure", "state"),
    [
        (
            5,
            "one seed; all 5 fresh trainings failed",
            "2 of 4 members of the search's front confirmed",
        ),
        (4, "1 fresh seed; 4 of 5 fresh trainings failed", "3 of 4 members"),
        (1, "4 fresh seeds; 1 of 5 fresh trainings failed", "3 of 4 members"),
    ],
)
def test_failures_count(record: Record, status: str, count: int, sure: str, state: str) -> None:
    rows = at_fresh_seeds(members(), 5)
    fail(rows, 2, count, status)
    found = found_in(record("demo", and_one_more(rows), tasks=TASKS))
    one = choice(found, "demo-00002")
    assert plain_words.sureness(one) == sure
    assert one.doubt == f"{count} of 5 fresh trainings failed: {REASON}."
    assert plain_words.to_json(one)["fresh_failed"] == count
    assert one.doubt in plain_words.text([one])
    # The cheaper one is the mildest loss's answer, but for its failures.
    shown = take.view(found)
    assert shown is not None
    assert shown.first.trial == "demo-00001"
    assert one.doubt in render(found, "")
    said = confirmed_tables.state(found)
    assert said.startswith(state)
    assert f"; {count} of 15 of their trainings failed" in said
    table = confirmed_tables.curse(found)
    place = [head.lines for head in table.heads].index(("seeds",))
    counts = {row.trial: row.cells[place] for row in table.rows}
    failed = f"{5 - count} of 5"
    assert counts == {"demo-00000": "5", "demo-00001": "5", "demo-00002": failed}


def test_an_objective_that_is_no_number_is_a_failure(record: Record) -> None:
    rows = at_fresh_seeds(members(), 3)
    fail(rows, 2, 2, "complete")
    one = choice(found_in(record("demo", and_one_more(rows), tasks=TASKS)), "demo-00002")
    assert one.doubt.startswith(f"2 of 3 fresh trainings failed: {MIOU}, cost/density was no")


def test_a_later_training_at_the_same_seed_stands_for_one_that_failed(record: Record) -> None:
    rows = at_fresh_seeds(members(), 2)
    fail(rows, 2, 1)
    rows.append(confirming(rows[2], len(rows), 900, -0.1))
    known = confirmations(load_study("demo", record("demo", rows, tasks=TASKS).storage))
    assert dict(known["demo-00002"].failed) == {}
    assert known["demo-00002"].values(MIOU) == pytest.approx({900: 0.385, 901: 0.485})


def test_one_at_work_has_not_failed(record: Record) -> None:
    rows = at_fresh_seeds(members(), 2)
    rows[-1].status, rows[-1].metrics = "running", {}
    known = confirmations(load_study("demo", record("demo", rows, tasks=TASKS).storage))
    assert (known["demo-00002"].tried, known["demo-00001"].tried) == ((900,), (900, 901))


def test_of_a_confirmed_front_no_model_leads_that_fresh_seeds_do_not_bear_out(
    record: Record,
) -> None:
    rows = at_fresh_seeds(members(), 5)
    fail(rows, 1, 3)
    for row in rows:
        if row.confirms == 2:
            row.metrics[MIOU] = 0.45
    found = found_in(record("demo", rows, tasks=TASKS))
    shown = take.view(found)
    assert shown is not None
    # One failed at most seeds, the other loses 10 %: what is left is the dense model.
    taken = {row.condition: row.trial for row in shown.rows}
    assert taken["At most 5 % loss on every task"] == "demo-00000"
    assert "demo-00001" not in taken.values()
    assert "All are means over fresh seeds" in shown.text
    # Before the newest member is confirmed too, values at selection decide, and are doubted.
    mixed = take.view(found_in(record("mixed", and_one_more(rows), tasks=TASKS)))
    assert mixed is not None
    again = {row.condition: (row.trial, row.doubt) for row in mixed.rows}
    assert again["At most 1 % loss on every task"][0] == "mixed-00001"
    assert "3 of 5 fresh trainings failed" in again["At most 1 % loss on every task"][1]
    assert again["At most 5 % loss on every task"][0] == "mixed-00002"
    assert "loses more than 5 %" in again["At most 5 % loss on every task"][1]


@pytest.mark.parametrize(("lucky", "taken"), [(0.0, "demo-00002"), (-0.02, "demo-00001")])
def test_what_was_lucky_is_not_taken(
    record: Record,
    lucky: float,
    taken: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Selected at 3 % of loss, it has 7 % at fresh seeds: the next one is within 5 %."""
    rows = at_fresh_seeds(members(), 2)
    for row in rows:
        if row.confirms == 2:
            row.metrics[MIOU] += lucky
    built = record("demo", rows, tasks=TASKS)
    every = {one.condition: one for one in plain_choices.choices(load_study("demo", built.storage))}
    one = every["At most 5 % loss on every task"]
    assert one.pick is not None
    assert (one.pick.trial.trial, one.by_fresh) == (taken, True)
    said = (
        "Before fresh seeds it was demo-00002 (density 20 %); at fresh seeds that is 7 % worse in"
    )
    assert one.before == (f"{said} segmentation." if lucky else "")
    assert one.before in plain_words.text([one])
    options = ["--storage", built.storage, "--max-loss", "5", "--best", "cost/density"]
    assert run(monkeypatch, "pick", "demo", *options, "--json", "-") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["trial"], answer["seeds"]) == (taken, [900, 901])


def test_where_all_failed_nothing_advises_what_was_done(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = at_fresh_seeds(members(), 5)
    for number in range(3):
        fail(rows, number, 5)
    built = record("demo", rows, tasks=TASKS)
    found = found_in(built)
    assert fresh_seeds(found.confirmed) == ()
    assert confirmed_tables.state(found).startswith(
        "0 of 3 members of the search's front confirmed; 15 of"
    )
    shown = take.view(found)
    assert shown is not None
    assert "all trainings at fresh seeds failed" in shown.text
    asking = "\n".join(health.lines(found))
    assert "demo-00002 (on the front): 5 of 5 fresh trainings failed" in asking
    # The seeds that failed are not tried again: 5 would train nothing.
    assert "confirm demo --seeds 10" in asking
    assert "confirm demo --seeds 5" not in asking
    assert "are not confirmed" not in asking
    answer = built.directory / "answer.json"
    command = ["front", "demo", "--storage", built.storage, "--json", answer, "--quiet"]
    assert run(monkeypatch, *command) == 0
    first = json.loads(answer.read_text())["front"][0]
    assert (first["fresh_seeds"], first["fresh_seeds_failed"]) == ([], [900, 901, 902, 903, 904])
    assert first["fresh"][MIOU] == {"mean": None, "low": None, "high": None}
    row = pq.read_table(built.directory / "front.parquet").to_pylist()[0]
    assert (row["fresh/seeds"], row["fresh/failed"]) == (0, 5)
    assert row[f"fresh/{MIOU}/mean"] is None


CONSTRAINTS = {"constraints": {"segmentation/miou": ">=0.48", "cost/density": "<=0.5"}}


def miss(rows: Sequence[Row], number: int, count: int, value: float) -> None:
    """Let the first `count` fresh trainings of a trial end below the floor."""
    for row in [row for row in rows if row.confirms == number][:count]:
        row.status = "infeasible"
        row.metrics = row.metrics | {MIOU: value}


def test_constraints_that_fresh_seeds_miss_are_a_doubt(record: Record) -> None:
    rows = at_fresh_seeds(members(), 5)
    miss(rows, 2, 4, 0.4799)
    found = found_in(record("demo", and_one_more(rows), tasks=TASKS, facts=CONSTRAINTS))
    one = choice(found, "demo-00002")
    said = "misses segmentation/miou>=0.48 at 4 of 5 fresh seeds"
    assert one.doubt == f"It {said}."
    shown = take.view(found)
    assert shown is not None
    assert shown.first.trial == "demo-00001"
    assert f"demo-00002 is on the front, but it {said}." in "\n".join(health.lines(found))
    table = confirmed_tables.curse(found)
    place = [head.lines for head in table.heads].index(("misses",))
    cells = {row.trial: row.cells[place] for row in table.rows if row.cells[place]}
    assert cells == {"demo-00002": "segmentation/miou>=0.48 at 4 of 5 fresh seeds"}


def test_a_constraint_is_missed_where_the_search_says_so(record: Record) -> None:
    rows = at_fresh_seeds(members(), 3)
    for row in rows:
        if row.confirms == 2:
            row.metrics[MIOU] = 0.47  # below the floor, but complete
    built = record("demo", and_one_more(rows), tasks=TASKS, facts=CONSTRAINTS)
    assert "misses segm" not in choice(found_in(built), "demo-00002").doubt
    miss(rows, 2, 1, 0.49)  # and one that was judged by what is not on record
    again = record("again", and_one_more(rows), tasks=TASKS, facts=CONSTRAINTS)
    doubt = choice(found_in(again), "again-00002").doubt
    assert "It misses a constraint of the study at 1 of 3 fresh seeds." in doubt


LATENCY, DELTA = "cost/latency_fraction", "val/multitask/delta_percent"


def with_latencies(fresh: Sequence[float]) -> list[Row]:
    """Give the cheaper model 49 % of the latency at selection, and others at fresh seeds."""
    rows = members()
    for row, latency in zip(rows, (1.0, 0.7, 0.49), strict=True):
        row.metrics |= {LATENCY: latency, DELTA: -2.0}
    rows = at_fresh_seeds(rows, len(fresh))
    own = [row for row in rows if row.confirms == 2]
    for place, (row, latency) in enumerate(zip(own, fresh, strict=True)):
        row.metrics |= {LATENCY: latency, DELTA: -5.0 - place}
    return and_one_more(rows)


def test_a_bound_on_cost_is_checked_at_fresh_seeds(record: Record) -> None:
    rows = with_latencies([0.58, 0.60, 0.62])
    found = found_in(record("demo", rows, tasks=TASKS))
    every = {one.condition: one for one in plain_choices.choices(found.study)}
    one = every["Latency at most 50 %"]
    assert one.pick is not None
    assert one.pick.trial.trial == "demo-00002"
    assert one.doubt == "At fresh seeds its latency is 60 % on average, must be at most 50 %."
    # Δ_T decided; at fresh seeds it is -5, -6 and -7.
    assert one.fresh_delta == pytest.approx(-6.0)
    assert plain_words.to_json(one)["fresh_delta_percent"] == pytest.approx(-6.0)
    shown = take.view(found)
    assert shown is not None
    (row,) = [row for row in shown.rows if row.condition == one.condition]
    assert row.cells[-2] == ("-2 %", "fresh: -6 %")
    table = confirmed_tables.curse(found)
    place = [head.lines for head in table.heads].index(("latency", "at selection"))
    cells = {row.trial: row.cells[place : place + 2] for row in table.rows}
    # t of two degrees of freedom is 4.303, the deviation 2 %.
    assert cells["demo-00002"] == ("49 %", "60 % ± 4.97 %")
    assert cells["demo-00001"] == ("70 %", "70 % ± 0 %")
    said = "Latency: on average 5.5 percentage points better at selection than at fresh seeds (1"
    assert any(text.startswith(said) for text in confirmed_tables.curse_text(found))
    assert not any(text.startswith("Density") for text in confirmed_tables.curse_text(found))


@pytest.mark.parametrize(
    ("fresh", "doubt"),
    [
        ([0.49, 0.51, 0.50], ""),
        (
            [0.49, 0.51, 0.5003],
            "At fresh seeds its latency is 50.01 % on average, must be at most 50 %.",
        ),
    ],
)
def test_a_mean_at_the_bound_meets_it(record: Record, fresh: list[float], doubt: str) -> None:
    found = found_in(record("demo", with_latencies(fresh), tasks=TASKS))
    every = {one.condition: one for one in plain_choices.choices(found.study)}
    assert every["Latency at most 50 %"].doubt == doubt


def test_delta_is_computed_where_trainings_report_none(record: Record) -> None:
    rows = at_fresh_seeds(members(), 2)
    for row in rows:
        if row.confirms == 2:
            row.metrics[MIOU] = 0.45 if row.seed == 900 else 0.475  # of 0.5: -10 and -5 %
    one = choice(found_in(record("demo", and_one_more(rows), tasks=TASKS)), "demo-00002")
    assert one.fresh_delta == pytest.approx(-7.5)


def test_without_a_dense_training_losses_are_to_the_one_at_selection(record: Record) -> None:
    rows = at_fresh_seeds(members(), 3)
    fail(rows, 0, 3)
    for row in rows:
        if row.confirms == 2:
            row.metrics[MIOU] = 0.45
    one = choice(found_in(record("demo", rows, tasks=TASKS)), "demo-00002")
    assert one.max_loss == 5.0
    assert one.doubt == "At fresh seeds it loses more than 5 %: segmentation 10 %."


def test_the_least_number_of_seeds_is_said(record: Record) -> None:
    """Dense at five seeds, the members at one: that is no front confirmed at five."""
    rows = at_fresh_seeds(members(), 1)
    rows += [confirming(rows[0], len(rows) + n, 901 + n, -0.01 * n) for n in range(4)]
    found = found_in(record("demo", rows, tasks=TASKS))
    said = "3 of 3 members of the search's front confirmed at 1 to 5 fresh seeds"
    assert confirmed_tables.state(found) == said
    assert "confirmed at 1 to 5 fresh seeds" in figures.front_subtitle(found)
    asking = "\n".join(health.lines(found))
    assert "The front is confirmed at 1 to 5 fresh seeds: intervals are wide with so few." in asking
    assert "confirm demo --seeds 5" in asking
    # At one seed all were trained; the others would show the dense model alone.
    assert found.fronts[0].attainment == {}


def test_surfaces_are_over_the_seeds_of_the_whole_front(record: Record) -> None:
    rows = at_fresh_seeds([*members(), simple_row(3, "set", 0.31, 0.498)], 2)
    rows += [confirming(row, len(rows) + n, 902, -0.1) for n, row in enumerate(rows[:3])]
    found = found_in(record("demo", rows, tasks=TASKS))
    (front,) = found.fronts
    # Three seeds; the neighbour, which has two, is left out and takes none of them away.
    assert front.attainment[75] == ((0.2, 0.3, 1.0), pytest.approx((0.385, 0.399, 0.4)))
    assert front.attainment[50] == ((0.2, 0.3, 1.0), pytest.approx((0.485, 0.499, 0.5)))
