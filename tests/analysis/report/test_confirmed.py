"""What fresh seeds tell, in every place that shows a front."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.plots import bounds, front, front_page, predictions, uncertainty
from analysis.report import confirmed_tables, figures, take, trial_tables
from analysis.report.report import render
from analysis.studies.trials import load_study
from analysis.tables import plain_choices
from tests.analysis.built_studies import BuiltStudy, Row, confirming, simple_row
from tests.analysis.test_command_line import run
from trainables.as_typed import python

MIOU, NORMALS = "val/segmentation/miou", "val/normals/mean_error_deg"
TASKS = ("segmentation", "normals")
SHIFTS = (-0.02, -0.01, 0.0)
Record = Callable[..., BuiltStudy]


def rows(*, confirmed: bool) -> list[Row]:
    """Three members; the two sparse ones differ by less than their seeds do."""
    made = [
        simple_row(0, "dense", 1.0, 0.60, 16.0),
        simple_row(1, "snip", 0.4, 0.48, 18.0),
        simple_row(2, "rigl", 0.3, 0.47, 18.01),
        simple_row(3, "random", 0.5, 0.20, 30.0),
    ]
    for row in made:
        row.metrics |= {"test/segmentation/miou": 0.4}
    found = list(made)
    for place, shift in enumerate(SHIFTS if confirmed else ()):
        for row in made[:3]:
            # Which of the two is better changes from seed to seed.
            jitter = 0.03 * (place - 1) if row.number == 2 else 0.0
            found.append(confirming(row, len(found), 900 + place, shift + jitter))
    return found


@pytest.fixture
def built(record: Record) -> BuiltStudy:
    return record("demo", rows(confirmed=True), tasks=("segmentation", "normals"))


def half_width(values: list[float]) -> float:
    """By hand: t of two degrees of freedom is (2p - 1) / √(2p(1 - p))."""
    mean = sum(values) / 3
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 2)
    return 0.95 / math.sqrt(2 * 0.975 * 0.025) * deviation / math.sqrt(3)


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
    assert plain_choices.fresh_text(one, MIOU) == said
    assert one.doubt == (f"At fresh seeds {doubt}" if doubt else "")


def test_a_mean_that_did_not_change_is_equal(record: Record) -> None:
    made = [simple_row(0, "dense", 1.0, 0.50, 16.0), simple_row(1, "snip", 0.4, 0.1, 17.0)]
    # Of 0.1 three times, floats make 0.30000000000000004.
    made += [confirming(row, 2 + n, 900 + n // 2, 0.0) for n, row in enumerate(3 * made)]
    found = figures.find(load_study("demo", record("demo", made, tasks=TASKS).storage))
    assert confirmed_tables.curse_text(found) == [
        f"{what}: on average equal at selection and at fresh seeds (0 of 2 members were better)"
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
    assert first == ("demo-00002", ("3 fresh seeds", "too few to tell it from 1 (40 %)"))
    said = "Below 5 seeds, not to be told apart is mostly want of seeds; in brackets, the density"
    assert said in shown.text
    assert "3 fresh seeds, too few to tell it from" in shown.headline
    others = {trial for trial, _ in sure.values()} - {shown.first.trial}
    assert shown.headline.endswith("Other conditions take other models, below.") == bool(others)


def test_tables_carry_means_intervals_and_ties(built: BuiltStudy) -> None:
    found = figures.find(load_study("demo", built.storage))
    assert [t.number for t in found.members] == [2, 1, 0]
    assert found.ties == {"demo-00002": (1,), "demo-00001": (2,), "demo-00000": ()}
    table = trial_tables.members(found)
    heads = [head.lines[-1] for head in table.heads]
    assert heads[-3:] == ["to tell from", "settings", "model"]
    assert [row.cells[-3] for row in table.rows] == ["1", "2", "–"]
    half = half_width([0.58, 0.59, 0.60])
    assert table.rows[2].cells[heads.index("fresh seeds")] == f"0.5900 ± {half:.4f}"
    curse = confirmed_tables.curse(found)
    assert [row.trial for row in curse.rows] == ["demo-00000", "demo-00001", "demo-00002"]
    # Selection, fresh seeds, and test at fresh seeds, which moves with them.
    test = 0.4 - 0.01
    assert curse.rows[0].cells[:3] == (
        "0.6000",
        f"0.5900 ± {half:.4f}",
        f"{test:.4f} ± {half:.4f}",
    )
    said = confirmed_tables.curse_text(found)
    assert said[0].startswith("Segmentation mIoU: on average 0.01 better at selection than at")
    # Lower angles are better, so the same shift is luck missed.
    assert "worse at selection" in said[1]


def test_files_carry_them_too(built: BuiltStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = built.directory / "answer.json"
    command = ["report", "demo", "--storage", built.storage, "--json", answer, "--quiet"]
    assert run(monkeypatch, *command) == 0
    members = pq.read_table(built.directory / "front.parquet").to_pylist()
    dense = next(row for row in members if row["method"] == "dense")
    half = half_width([0.58, 0.59, 0.60])
    assert dense["fresh/seeds"] == 3
    assert dense[f"fresh/{MIOU}/mean"] == pytest.approx(0.59)
    assert dense[f"fresh/{MIOU}/low"] == pytest.approx(0.59 - half)
    assert dense[f"fresh/{MIOU}/high"] == pytest.approx(0.59 + half)
    assert [row["tied_with"] for row in members] == [[], [2], [1]]
    with (built.directory / "fronts" / "segmentation.csv").open(newline="") as file:
        by_trial = {row["trial"]: row for row in csv.DictReader(file)}
    assert by_trial["demo-00001"]["tied_with"] == "2"
    assert by_trial["demo-00003"]["fresh_mean"] == ""
    assert float(by_trial["demo-00000"]["fresh_low"]) == pytest.approx(0.59 - half)
    front_of = {m["trial"]: m for m in json.loads(answer.read_text())["front"]}
    assert front_of["demo-00000"]["fresh"][MIOU]["high"] == pytest.approx(0.59 + half)
    assert front_of["demo-00001"]["tied_with"] == [2]
    with (built.directory / "fronts" / "segmentation-attainment.csv").open(newline="") as file:
        corners = list(csv.DictReader(file))
    # Worked by hand: at density 1 the seeds attain 0.58, 0.59 and 0.60; a half of three is two.
    at_one = {r["percent_of_seeds"]: float(r[MIOU]) for r in corners if r["cost/density"] == "1"}
    assert at_one == pytest.approx({"25": 0.60, "50": 0.59, "75": 0.58})


def test_pictures_show_them(built: BuiltStudy) -> None:
    found = figures.find(load_study("demo", built.storage))
    picture = front.draw(found.fronts, found.member_names, "t", figures.front_subtitle(found))
    texts = [t.get_text() for legend in picture.legends for t in legend.get_texts()]
    assert {uncertainty.MEAN, uncertainty.ATTAINED} <= set(texts)
    assert "confirmed at 3 fresh seeds" in figures.front_subtitle(found)
    half = half_width([0.58, 0.59, 0.60])
    for axes in picture.axes[:1]:
        (bars,) = [c for c in axes.containers if hasattr(c, "has_yerr")]
        (segments,) = (lines.get_segments() for lines in bars.lines[2])
        assert segments[0][:, 1] == pytest.approx([0.59 - half, 0.59 + half])  # the dense trial
    page = front_page.interactive(found.fronts[0], found.member_names, {})
    (mean,) = [trace for trace in page.data if trace.name == uncertainty.MEAN]
    assert mean.error_y.array[0] == pytest.approx(half)
    assert mean.text[0] == (
        f"<b>demo-00000 Dense</b><br>mIoU, mean of 3 fresh seeds: 0.59<br>95 % interval: "
        f"{0.59 - half:.4g} to {0.59 + half:.4g}"
    )
    assert all(len(line) <= 34 + len("<b></b>") for line in "<br>".join(mean.text).split("<br>"))
    assert sum(trace.name == uncertainty.ATTAINED for trace in page.data) == 2


def test_an_interval_that_leaves_the_panel_is_marked(record: Record) -> None:
    made = rows(confirmed=True)
    for row in made:
        if row.confirms == 2:  # from seed to seed 0.27, 0.47 and 0.67
            row.metrics[MIOU] = 0.47 + 0.2 * (row.seed - 901)
    found = figures.find(
        load_study("demo", record("demo", made, tasks=("segmentation", "normals")).storage)
    )
    shown = found.fronts[0]
    low, high = bounds.window(shown).quality_limits
    reach = half_width([0.27, 0.47, 0.67])
    assert 0.47 - reach < low
    assert high < 0.47 + reach
    ends = uncertainty.cut_ends(shown, (low, high))
    assert [(one.trial.number, upper) for one, upper in ends] == [(2, False), (2, True)]
    # The others' intervals have room, and on the other task all have.
    half = half_width([0.58, 0.59, 0.60])
    assert low < 0.59 - half < 0.59 + half < high
    assert (
        uncertainty.cut_ends(found.fronts[1], bounds.window(found.fronts[1]).quality_limits) == []
    )

    page = front_page.interactive(shown, found.member_names, {})
    arrows = [t for t in page.data if t.name == uncertainty.MEAN and not t.meta]
    assert [list(t.marker.symbol) for t in arrows] == [["triangle-down", "triangle-up"]]
    assert list(arrows[0].customdata) == ["demo-00002"] * 2
    assert all(low < y < high for y in arrows[0].y)
    remark = "arrows: intervals that go on"
    assert any(remark in note.text for note in page.layout.annotations)
    picture = front.draw([shown], found.member_names, "t", "")
    assert any(remark in text.get_text() for text in picture.axes[0].texts)


def test_the_page_says_what_is_drawn_alone(record: Record) -> None:
    dashed, dotted = "The dashed line is the dense model", "The dotted staircase is what random"
    attained, share = "the line is what half of the seeds", "<i>% of dense</i>"
    made = rows(confirmed=True)
    every = " ".join(_page(record, "all", made).split())
    assert all(text in every for text in (dashed, dotted, attained, share))
    without = [row for row in made if row.method not in ("dense", "random")]
    few = " ".join(_page(record, "few", without).split())
    assert dashed not in few
    assert dotted not in few
    assert share not in few
    assert attained in few
    assert "bars are the means" not in _page(record, "none", rows(confirmed=False))


def _page(record: Record, name: str, made: list[Row]) -> str:
    built = record(name, made, tasks=("segmentation", "normals"))
    return render(figures.find(load_study(name, built.storage)), "command")


def test_hovers_and_heads_never_promise_more_than_there_is(record: Record) -> None:
    made = rows(confirmed=True)
    made[2].metrics["cost/density"] = 0.1001
    made[2].metrics[MIOU] = 0.47009
    made[2].params = {"sparsity.target": 0.89991}
    made[1].params = {"sparsity.target": 0.6}
    study = load_study("demo", record("demo", made, tasks=("segmentation", "normals")).storage)
    hover = figures.hover_texts(study)["demo-00002"]
    assert "density: 10.01 %" in hover
    assert "mIoU: 0.47 (" in hover.replace("\u2003", "").replace("<br>", " ")
    assert "sparsity.target: 89.99 %" in hover
    trial = study.trials[2]
    assert "10.01 % kept" in predictions._head(trial, "segmentation")


def test_the_page_says_it(built: BuiltStudy) -> None:
    page = render(figures.find(load_study("demo", built.storage)), "command")
    assert "3 of 3 members of the front confirmed at 3 fresh seeds" in page
    assert "too few seeds<br>to tell from" in page
    assert "members that no task tells apart are no ties" in page
    assert "single seed" not in page


def test_a_study_without_confirmations_says_so(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = record("demo", rows(confirmed=False), tasks=("segmentation", "normals"))
    found = figures.find(load_study("demo", built.storage))
    told = f"single seed: run `{python()} -m search confirm demo --storage {built.storage}`"
    assert told in render(found, "command").replace("&#39;", "'")
    assert not found.confirmed
    assert ("to tell from",) not in [head.lines[-1:] for head in trial_tables.members(found).heads]
    assert run(monkeypatch, "front", "demo", "--storage", built.storage) == 0
    assert told in capsys.readouterr().out
    assert "tied_with" not in pq.read_table(built.directory / "front.parquet").column_names
    assert not list(Path(built.directory).glob("fronts/*attainment*"))


def test_one_fresh_seed_has_a_mean_and_no_interval(record: Record) -> None:
    made = rows(confirmed=False)
    made.append(confirming(made[0], 4, 900, -0.1))
    built = record("demo", made, tasks=("segmentation", "normals"))
    found = figures.find(load_study("demo", built.storage))
    heads = [head.lines[-1] for head in trial_tables.members(found).heads]
    cells = trial_tables.members(found).rows[-1].cells
    assert cells[heads.index("fresh seeds")] == "0.5000"
    assert front.draw(found.fronts, found.member_names, "t", "s")
    render(found, "command")


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
        (4, 4, "4 fresh seeds, too few to tell it from 1 (40 %)", "to tell from", "1"),
        (5, 5, "5 fresh seeds; tied with 1 (40 %)", "tied with", "1"),
        (
            6,
            4,
            "6 fresh seeds, too few of them shared to tell it from 1 (40 %)",
            *("to tell from", "1"),
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
    assert plain_choices.sureness(one) == sure
    told = plain_choices.to_json(one)
    assert (told["tied_with"], told["tied_at_few_seeds"]) == ([1], [1] if "few" in sure else [])
    table = trial_tables.members(found)
    (place,) = [n for n, one in enumerate(table.heads) if one.lines[-1] == head]
    assert table.rows[0].cells[place] == cell
    said = any("are no ties" in text for text in confirmed_tables.curse_text(found))
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
            assert row.cells[-2:] == (above[-2], ("as above",))
        seen.setdefault(row.trial, row.cells)
    first = seen["demo-00001"]
    # Means over the seeds: 0.59258 of 0.59895, a loss of 1.063 %; the last line is its interval.
    assert [line[:8] for line in first[1]] == ["1.07 % w", "0.5925 (", "(-2.1 to"]
    assert first[-1] == ("5 fresh seeds", "tied with 2 (20 %), 3 (30 %) and 3 more")
