"""Check the report's first section: a model to take, its price, and how to get it."""

import html
import math
from collections.abc import Callable

import pytest

from analysis.report import figures
from analysis.report.report import render
from analysis.report.sections import take, trial_tables
from analysis.studies.trials import load_study
from tests.analysis.built_studies import BuiltStudy, confirming, simple_row
from trainables.terminal.as_typed import python

Record = Callable[..., BuiltStudy]


@pytest.fixture
def built(record: Record) -> BuiltStudy:
    values = [
        ("dense", 1.0, 0.50, 16.0),
        ("snip", 0.5, 0.48, 16.4),
        ("rigl", 0.1001, 0.30, 26.0),
        ("random", 0.05, 0.20, 30.0),
    ]
    rows = [simple_row(i, *value) for i, value in enumerate(values)]
    rows[1].params = {"method": "snip", "optimiser.name": "adam"}
    return record("demo", rows, tasks=("segmentation", "normals"))


def found_in(built: BuiltStudy) -> figures.Findings:
    study = load_study(built.name, built.storage)
    return figures.find(study, with_masks=False, with_importances=False, with_predictions=False)


def test_a_model_its_price_and_how_to_get_it(built: BuiltStudy) -> None:
    folder = built.directory / "trials" / "00001"
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"weights")
    shown = take.view(found_in(built))
    assert shown is not None
    assert shown.first.trial == "demo-00001"  # the cheapest that loses at most 5 %
    assert "segmentation 4 % worse, surface normals 2.5 % worse" in shown.headline
    assert "one seed" in shown.headline
    details = dict(shown.first.details)
    assert details["file"] == str(folder / "model.pt")
    assert "load_model(" in details["load"]
    assert details["ship"].startswith(f"{python()} -m search ship demo --trial 1 --out")
    page = html.unescape(render(found_in(built), "command"))
    for text in (shown.headline, details["load"], details["ship"], details["file"]):
        # No line breaks between a number and its percent sign.
        assert text.replace(" %", "\u00a0%") in page
    assert page.index('id="take"') < page.index('id="front"')


def test_what_a_cost_counts_is_said(built: BuiltStudy) -> None:
    shown = take.view(found_in(built))
    assert shown is not None
    assert shown.text.endswith(" Here density = kept / prunable weights.")


def test_every_condition_has_its_row(built: BuiltStudy) -> None:
    shown = take.view(found_in(built))
    assert shown is not None
    taken = {row.condition: row.trial for row in shown.rows}
    assert [row.aim for row in shown.rows] == ["cheapest", "cheapest", "", ""]
    assert taken["At most 1 % loss on every task"] == "demo-00000"
    assert taken["Density at most 10 %"] == "demo-00003"  # 10.01 % is not 10 %
    (tenth,) = [row for row in shown.rows if row.trial == "demo-00003"]
    assert tenth.cells[0] == ("5 %",)
    assert tenth.cells[1] == ("60 % worse", "0.2")


def test_the_members_table_shows_what_filters_read(built: BuiltStudy) -> None:
    table = trial_tables.members(found_in(built))
    heads = [" ".join(head.lines) for head in table.heads]
    rows = {row.trial: dict(zip(heads, row.cells, strict=True)) for row in table.rows}
    assert rows["demo-00002"]["density\u00a0↓"] == "10.01 %"
    assert rows["demo-00001"]["settings"] == "optimiser.name=adam"
    assert rows["demo-00001"]["Δ_T\u00a0↑ %"] == "-3.25"  # (-4 - 2.5) / 2
    assert rows["demo-00001"]["% of dense"] == "102.5 %"  # the last task's, normals
    assert rows["demo-00001"]["model"] == "–"


def test_a_study_without_a_front_takes_nothing(record: Record) -> None:
    assert take.view(found_in(record("empty", [], tasks=("segmentation",)))) is None


@pytest.mark.parametrize(
    ("structure", "said"), [("weight", True), ("2:4", True), ("channel", False), (None, False)]
)
def test_what_zeros_do_not_buy_is_said_where_it_applies(
    record: Record, structure: str | None, said: bool
) -> None:
    rows = [simple_row(0, "dense", 1.0, 0.5), simple_row(1, "snip", 0.5, 0.49)]
    defaults = {
        "snip": {"sparsity.structure": structure},
        "dense": {"sparsity.structure": "weight"},
    }
    facts = {"defaults": defaults} if structure else {}
    shown = take.view(found_in(record("demo", rows, tasks=("segmentation",), facts=facts)))
    assert shown is not None
    assert ("saves bytes but no time on ordinary hardware" in shown.text) == said
    assert "\u0394_T is the mean change of all metrics of a task, not only of" in shown.text


def test_the_file_is_said_to_be_one_training_and_what_it_does_on_test(record: Record) -> None:
    made = [simple_row(0, "dense", 1.0, 0.50, 16.0), simple_row(1, "snip", 0.4, 0.49, 16.1)]
    made[0].metrics |= {"test/segmentation/miou": 0.50, "test/normals/mean_error_deg": 20.0}
    made[1].metrics |= {"test/segmentation/miou": 0.48, "test/normals/mean_error_deg": 19.0}
    # Fresh seeds choose by their own means; the file stays the one of the search.
    made += [confirming(row, 2 + n, 900 + n // 2, -0.01) for n, row in enumerate(2 * made[:2])]
    built = record("demo", made, tasks=("segmentation", "normals"))
    shown = take.view(found_in(built))
    assert shown is not None
    assert shown.first.trial == "demo-00001"
    assert shown.first.file == ""  # no file, no words of it
    for number in range(2):
        folder = built.directory / "trials" / f"{number:05d}"
        folder.mkdir(parents=True)
        (folder / "model.pt").write_bytes(b"weights")
    shown = take.view(found_in(built))
    assert shown is not None
    assert shown.first.file == (
        "The file holds the model as the search trained it, at seed 1. On test, compared with the "
        "dense model of the search: segmentation 4 % worse, surface normals 5 % better."
    )
    assert shown.first.file in html.unescape(render(found_in(built), "command"))
    (dense,) = [model for model in shown.others if model.trial == "demo-00000"]
    assert dense.file == "The file holds the model as the search trained it, at seed 0."


def test_without_test_the_file_still_says_its_seed(built: BuiltStudy) -> None:
    folder = built.directory / "trials" / "00001"
    folder.mkdir(parents=True)
    (folder / "model.pt").write_bytes(b"weights")
    shown = take.view(found_in(built))
    assert shown is not None
    assert shown.first.file == "The file holds the model as the search trained it, at seed 1."


def test_an_interval_beyond_the_loss_is_said(record: Record) -> None:
    made = [simple_row(0, "dense", 1.0, 0.50, 16.0), simple_row(1, "snip", 0.4, 0.49, 16.0)]
    for seed, fresh in ((900, 0.50), (901, 0.46)):  # 0 and 8 % lost: 4 % on average
        made.append(confirming(made[0], len(made), seed, 0.0))
        made.append(confirming(made[1], len(made), seed, 0.0))
        made[-1].metrics["val/segmentation/miou"] = fresh
    shown = take.view(found_in(record("demo", made, tasks=("segmentation", "normals"))))
    assert shown is not None
    # Losses of 0 and 8 %: t of one degree of freedom is 12.706, so up to 4 + 12.706 * 4.
    said = "The loss may be higher: up to 54.9 % in segmentation (95 % interval)."
    assert said in shown.headline
    doubts = {row.condition: row.doubt for row in shown.rows}
    assert said in doubts["At most 5 % loss on every task"]
    assert "may be higher" not in doubts["Density at most 10 %"]


def test_only_models_that_meet_the_bound_are_named_beside_one(record: Record) -> None:
    made = [simple_row(0, "dense", 1.0, 0.60, 16.0)]
    made += [
        simple_row(n, "snip", cost, 0.5 + cost, 16.0)
        for n, cost in enumerate((0.05, 0.09, 0.095), 1)
    ]
    made += [simple_row(4, "snip", 0.4, 0.599, 16.0)]
    for place in range(5):
        for row in made[:5]:
            jitter = 0.2 * math.sin(3 * place + 7 * row.number)
            made.append(confirming(row, len(made), 900 + place, jitter))
    found = found_in(record("demo", made, tasks=("segmentation", "normals")))
    every = {one.condition: one for one in found.plainly}
    tenth = every["Density at most 10 %"]
    assert tenth.pick is not None
    others = {1, 2, 3} - {tenth.pick.trial.number}
    assert set(tenth.tied) == others & {t.number for t in tenth.pick.choice.admitted}
    assert 4 in found.ties[tenth.pick.trial.trial]
