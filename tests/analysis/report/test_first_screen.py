"""What the first screen says of a front that fresh seeds have tried."""

import math
from collections.abc import Callable

import pytest

from analysis.report import figures
from analysis.report.sections import confirmed_tables, take, trial_tables
from analysis.studies.trials import load_study
from analysis.tables import plain_choices, plain_words
from tests.analysis.built_studies import BuiltStudy, Row, confirming, simple_row
from tests.analysis.report.test_confirmed import rows
from tests.analysis.test_command_line import run

MIOU = "val/segmentation/miou"
NORMALS = "val/normals/mean_error_deg"
TASKS = ("segmentation", "normals")
APART = "tell it apart from #1 (density 40 %)"
Record = Callable[..., BuiltStudy]


def test_the_headline_says_what_fresh_seeds_say(record: Record) -> None:
    made = [simple_row(0, "dense", 1.0, 0.60, 16.0), simple_row(1, "snip", 0.4, 0.59, 16.1)]
    again = [confirming(row, 2 + place, 900, -0.02) for place, row in enumerate(made)]
    built = record("demo", [*made, *again], tasks=("segmentation", "normals"))
    shown = take.view(figures.find(load_study("demo", built.storage)))
    assert shown is not None
    assert shown.first is not None
    assert shown.first.trial == "demo-00001"
    # 0.01 of 0.60 at selection, and of 0.58 at the fresh seed.
    assert "segmentation 1.67 % worse (at fresh seeds 1.73 % worse), surface" in shown.headline


@pytest.mark.parametrize(
    ("fresh", "said", "doubt"),
    [
        (0.495, "1 % worse", ""),
        (0.4948, "1.04 % worse", "it loses more than 1 %: segmentation 1.04 %."),
        (0.49499, "1.01 % worse", "it loses more than 1 %: segmentation 1.01 %."),
        (-0.02, "104 % worse", "it loses more than 1 %: segmentation 104 %."),
        (0.5, "equal", ""),
    ],
)
def test_a_loss_at_fresh_seeds_is_not_rounded_away(
    record: Record, fresh: float, said: str, doubt: str
) -> None:
    made = [simple_row(0, "dense", 1.0, 0.50, 16.0), simple_row(1, "snip", 0.4, 0.50, 16.0)]
    made += [confirming(made[0], 2, 900, 0.0), confirming(made[1], 3, 900, 0.0)]
    made[3].metrics[MIOU] = fresh
    built = record("demo", made, tasks=("segmentation", "normals"))
    one = plain_choices.choices(load_study("demo", built.storage))[0]
    assert one.pick is not None
    assert one.pick.trial.trial == "demo-00001"
    assert plain_words.fresh_text(one, MIOU) == said
    assert one.doubt == (f"At fresh seeds {doubt}" if doubt else "")


def test_a_mean_that_did_not_change_is_equal(record: Record) -> None:
    made = [simple_row(0, "dense", 1.0, 0.50, 16.0), simple_row(1, "snip", 0.4, 0.1, 17.0)]
    # Of 0.1 three times, floats make 0.30000000000000004.
    made += [confirming(row, 2 + n, 900 + n // 2, 0.0) for n, row in enumerate(3 * made)]
    found = figures.find(load_study("demo", record("demo", made, tasks=TASKS).storage))
    assert confirmed_tables.curse_text(found) == [
        f"{what}: on average equal at selection and at fresh seeds "
        "(0 of 1 sparse members were better)"
        for what in ("Segmentation mIoU", "Surface normals mean angular error")
    ]


def test_ties_on_the_first_screen_have_their_cost(record: Record) -> None:
    made = rows(confirmed=True)
    for row in made:
        # Within 1 % of the dense model, and within the jitter of each other.
        if row.method in ("snip", "rigl"):
            row.metrics[MIOU] += 0.117 if row.method == "snip" else 0.126
            row.metrics[NORMALS] -= 1.9
    built = record("demo", made, tasks=("segmentation", "normals"))
    shown = take.view(figures.find(load_study("demo", built.storage)))
    assert shown is not None
    sure = {row.condition: (row.trial, row.cells[-1]) for row in shown.rows if row.trial}
    first = sure["At most 1 % loss on every task"]
    assert first == (
        "demo-00002",
        ("3 fresh seeds", "too few to tell it apart from #1 (density 40 %)"),
    )
    said = "With fewer than 5 seeds, models often cannot be told apart; #1 is demo-00001, and only"
    assert said in shown.text
    assert "3 fresh seeds, too few to tell it apart from" in shown.headline
    others = {trial for trial, _ in sure.values()} - {shown.first.trial}
    assert shown.headline.endswith("Other conditions take other models, below.") == bool(others)


def at_many_seeds(num_seeds: int, of_the_first: int) -> list[Row]:
    """Two members that differ by less than their seeds do; the first has fewer seeds."""
    found = [
        simple_row(0, "dense", 1.0, 0.60, 16.0),
        simple_row(1, "snip", 0.4, 0.597, 16.1),
        simple_row(2, "rigl", 0.3, 0.596, 16.11),
    ]
    for place in range(num_seeds):
        for row in found[:3]:
            if row.number != 1 or place < of_the_first:
                jitter = 0.03 * (-1) ** place if row.number == 2 else 0.0
                found.append(confirming(row, len(found), 900 + place, jitter))
    return found


@pytest.mark.parametrize(
    ("num_seeds", "of_the_first", "sure", "head", "cell"),
    [
        (4, 4, f"4 fresh seeds, too few to {APART}", "tell it apart from", "#1"),
        (5, 5, "5 fresh seeds; tied with #1 (density 40 %)", "tied with", "#1"),
        (
            6,
            4,
            f"6 fresh seeds, too few of them shared to {APART}",
            *("tell it apart from", "#1"),
        ),
    ],
)
def test_a_tie_takes_five_seeds(
    record: Record, num_seeds: int, of_the_first: int, sure: str, head: str, cell: str
) -> None:
    built = record("demo", at_many_seeds(num_seeds, of_the_first), tasks=TASKS)
    found = figures.find(load_study("demo", built.storage))
    assert found.ties["demo-00002"] == (1,)
    every = plain_choices.choices(found.study)
    one = next(o for o in every if o.pick and o.pick.trial.trial == "demo-00002")
    assert plain_words.sureness(one) == sure
    told = plain_words.to_json(one)
    assert (told["tied_with"], told["tied_at_few_seeds"]) == ([1], [1] if "few" in sure else [])
    table = trial_tables.members(found)
    (place,) = [n for n, one in enumerate(table.heads) if one.lines[-1] == head]
    assert table.rows[0].cells[place] == cell
    said = any("need not be equally good" in text for text in confirmed_tables.curse_text(found))
    assert said == ("few" in sure)


def test_the_first_screen_says_a_model_once_and_names_the_cheapest_ties(record: Record) -> None:
    made = [simple_row(0, "dense", 1.0, 0.60, 16.0)]
    made += [simple_row(n, "snip", n / 10, 0.59 + 0.001 * n, 16.0) for n in range(1, 6)]
    for place in range(5):
        for row in made[:6]:
            jitter = 0.02 * math.sin(3 * place + 7 * row.number)
            made.append(confirming(row, len(made), 900 + place, jitter))
    built = record("demo", made, tasks=TASKS)
    found = figures.find(load_study("demo", built.storage))
    assert found.ties["demo-00001"] == (0, 2, 3, 4, 5)
    shown = take.view(found)
    assert shown is not None
    seen: dict[str, tuple[tuple[str, ...], ...]] = {}
    for row in (row for row in shown.rows if row.trial):
        if row.trial in seen:
            above = seen[row.trial]
            assert row.cells[:-2] == tuple((cell[0],) for cell in above[:-2])
            assert (row.cells[-2], row.cells[-1][0]) == (above[-2], above[-1][0])
        seen.setdefault(row.trial, row.cells)
    first = seen["demo-00001"]
    # Means over the seeds: 0.59258 of 0.59895, a loss of 1.063 %; the last line is its interval.
    assert [line[:8] for line in first[1]] == ["1.07 % w", "0.5925", "(95 %: 2"]
    assert first[-1] == (
        "5 fresh seeds",
        "tied with #2 (density 20 %), #3 (density 30 %) and 3 more",
    )
    assert "better to " in first[1][-1]


def test_a_headline_without_a_bounded_loss_says_why(record: Record, monkeypatch, capsys) -> None:
    """At fresh seeds the knee loses 10 %, so that the dense one alone loses at most 5 %."""
    made = [simple_row(0, "dense", 1.0, 0.60, 16.0), simple_row(1, "snip", 0.4, 0.59, 16.1)]
    made.append(simple_row(2, "rigl", 0.2, 0.40, 20.0))
    for place in range(2):
        for row in made[:3]:
            made.append(confirming(row, len(made), 900 + place, -0.05 * row.number))
    built = record("demo", made, tasks=TASKS)
    shown = take.view(figures.find(load_study("demo", built.storage)))
    assert shown is not None
    assert shown.first.trial == "demo-00001"
    alone = "No sparse model of the front loses at most 5 % on every task."
    assert alone in shown.headline
    losses = [row for row in shown.rows if "loss" in row.condition]
    assert [row.trial for row in losses] == ["demo-00000"] * 2
    assert losses[1].doubt.startswith(alone)
    assert run(monkeypatch, "pick", "demo", "--storage", built.storage) == 0
    assert alone in capsys.readouterr().out
    bounds = ("--max-loss", "5", "--best", "cost/density", "--storage", built.storage)
    assert run(monkeypatch, "pick", "demo", *bounds) == 0
    said = capsys.readouterr().out
    assert "the only model that meets the bounds is the dense one; the nearest sparse one" in said
    assert "is demo-00001: segmentation/miou is 0.5399, must be >= 0.57 (missed by 0.03" in said
    assert "; --max-loss 10.01 would admit it" in said
