"""What fresh seeds tell, in every place that shows a front."""

import csv
import html
import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.plots import predictions
from analysis.plots.fronts import bounds, front, front_page, uncertainty
from analysis.report import figures
from analysis.report.report import render
from analysis.report.sections import confirmed_tables, trial_tables
from analysis.studies.trials import load_study
from tests.analysis.built_studies import BuiltStudy, Row, confirming, simple_row
from tests.analysis.test_command_line import run
from trainables.terminal.as_typed import python

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


def test_tables_carry_means_intervals_and_ties(built: BuiltStudy) -> None:
    found = figures.find(load_study("demo", built.storage))
    assert [t.number for t in found.members] == [2, 1, 0]
    assert found.ties == {"demo-00002": (1,), "demo-00001": (2,), "demo-00000": ()}
    table = trial_tables.members(found)
    heads = [head.lines[-1] for head in table.heads]
    assert heads[-3:] == ["tell it apart from", "settings", "model"]
    assert [row.cells[-3] for row in table.rows] == ["#1", "#2", "–"]
    assert table.rows[2].cells[heads.index("fresh seeds")] == "0.59 ± 0.0249"
    curse = confirmed_tables.curse(found)
    assert [row.trial for row in curse.rows] == ["demo-00002", "demo-00001", "demo-00000"]
    heads = [head.lines for head in curse.heads[:3]]
    assert heads == [("density",), ("on the", "search's front"), ("on the front", "of the means")]
    by_means = {trial.trial for trial in found.fresh_front}
    for row in curse.rows:
        assert row.cells[1:3] == ("yes", "yes" if row.trial in by_means else "no")
    # Selection, fresh seeds, and test at fresh seeds, which moves with them.
    # Of 0.39, floats are a little less: no bound of 0.39 would admit it.
    assert curse.rows[2].cells[0] == "100 %"
    assert curse.rows[2].cells[3:6] == (
        "0.6",
        "0.59 ± 0.0249",
        "0.3899 ± 0.0249",
    )
    said = confirmed_tables.curse_text(found)
    # Of the two sparse members: what nobody selected says nothing of luck.
    assert said[0].startswith("Segmentation mIoU: on average 0.01 better at selection than at")
    assert said[0].endswith("of 2 sparse members were better)")
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
    assert "3 of 3 members of the search's front confirmed at 3 fresh seeds" in html.unescape(page)
    assert "too few seeds to<br>tell it apart from" in page
    assert "members that no task tells apart need not be equally good" in page
    assert "single seed" not in page


def test_it_is_said_which_front_is_meant(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [simple_row(0, "dense", 1.0, 0.60, 16.0), simple_row(1, "snip", 0.4, 0.50, 17.0)]
    made += [simple_row(2, "rigl", 0.5, 0.501, 16.9)]
    for seed in (900, 901):  # 2 falls behind 1, which is cheaper
        made += [confirming(row, len(made) + row.number, seed, 0.0) for row in made[:3]]
        made[-1].metrics |= {MIOU: 0.4, NORMALS: 18.0}
    for number, row in enumerate(made):
        row.number = number
    built = record("demo", made, tasks=TASKS)
    found = figures.find(load_study("demo", built.storage))
    assert (len(found.members), len(found.fresh_front)) == (3, 2)
    page = " ".join(html.unescape(render(found, "command")).split())
    for text in (
        "<b>3</b><span>on the search's front</span>",
        "<b>2</b><span>on the front by fresh seeds</span>",
        "3 of 3 members of the search's front confirmed at 2 fresh seeds; by the means over these, "
        "2 models are on the front",
        "The search's joint front over all tasks and the cost",
        "Here the front is the search's own, by values at one seed.",
    ):
        assert text in page
    assert run(monkeypatch, "pick", "demo", "--storage", built.storage) == 0
    assert "of the 2 models on the front of means over fresh seeds" in capsys.readouterr().out
    options = ("--where", "cost/density<=0.2")
    assert run(monkeypatch, "pick", "demo", "--storage", built.storage, *options) == 2
    said = capsys.readouterr().err
    assert "no model of the front of means over fresh seeds meets cost/density<=0.2" in said


def test_a_study_without_confirmations_says_so(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = record("demo", rows(confirmed=False), tasks=("segmentation", "normals"))
    found = figures.find(load_study("demo", built.storage))
    command = f"{python()} -m search confirm demo --storage {built.storage}"
    told = f"single seed: run `{command}`"
    assert f"single seed: run <code>{command}</code>" in render(found, "command").replace(
        "&#39;", "'"
    )
    assert not found.confirmed
    assert ("tell it apart from",) not in [
        head.lines[-1:] for head in trial_tables.members(found).heads
    ]
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
    assert cells[heads.index("fresh seeds")] == "0.5"
    assert front.draw(found.fronts, found.member_names, "t", "s")
    render(found, "command")
