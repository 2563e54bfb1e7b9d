"""What the report says of a study's health: one sentence each, and what to do."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from analysis.report import figures
from analysis.report.report import render
from analysis.report.sections import health
from analysis.studies.terms import further_text
from analysis.studies.trials import load_study
from tests.analysis.built_studies import (
    BuiltStudy,
    Row,
    confirming,
    realistic_rows,
    simple_row,
)
from tests.analysis.test_command_line import run
from trainables.terminal.as_typed import python

TASKS = ("segmentation",)
SCHEDULER = {"grace": 0.5, "maximum": 1.0, "reduction_factor": 3.0}
Record = Callable[..., BuiltStudy]


def said(built: BuiltStudy) -> dict[str, str]:
    """The remedy by the sentence."""
    found = figures.find(load_study(built.name, built.storage))
    return {one.text: one.remedy for one in health.check(found)}


def sentence(found: dict[str, str], start: str) -> tuple[str, str]:
    (text,) = [text for text in found if start in text]
    return text, found[text]


def write_reports(built: BuiltStudy, row: Row, half_way: float) -> None:
    folder = built.directory / "trials" / f"{row.number:05d}"
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"training/fraction": 0.5, "val/segmentation/miou": half_way}
    (folder / "reports.jsonl").write_text(json.dumps({"step": 5, "metrics": metrics}) + "\n{cut")


def small_rows(count: int) -> list[Row]:
    """A front of models that all pay for what they do better."""
    return [simple_row(n, "snip", 0.1 * (n + 1), 0.3 + 0.02 * n) for n in range(count)]


def test_a_healthy_realistic_study(record: Record) -> None:
    built = record("s", realistic_rows(40, TASKS), tasks=TASKS, summaries=True)
    found = said(built)
    assert sentence(found, "lost all of its weights")[1] == ""
    assert sentence(found, "failed, ")[0].startswith("2 of 40 trials failed, 2 of them because")
    assert sentence(found, "The ranges that the study draws from are not on record")[1] == ""
    command = f"`{python()} -m search confirm s --storage {built.storage}`"
    assert command in sentence(found, "trained at one seed")[1]
    # What asks for something comes first.
    remedies = [bool(remedy) for remedy in found.values()]
    assert remedies == sorted(remedies, reverse=True)


def test_a_collapsed_layer_is_named_with_what_it_does(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = record("s", small_rows(3), tasks=TASKS, summaries=True)
    path = built.directory / "trials" / "00001" / "summary.json"
    summary = json.loads(path.read_text())
    summary["masks"]["layers"]["heads.segmentation.0.convolution"]["kept"] = 0
    path.write_text(json.dumps(summary))
    text, remedy = sentence(said(built), "no weight left")
    assert text == (
        "s-00001 (on the front) has no weight left in heads.segmentation.0.convolution "
        "(segmentation): its output is constant, so what depends on it alone does not see the "
        "image."
    )
    assert remedy.startswith("Lower sparsity.target")
    assert run(monkeypatch, "report", "s", "--storage", built.storage) == 0
    assert f"health: {text} {remedy}" in capsys.readouterr().out
    assert text in render(figures.find(load_study("s", built.storage)), "c")
    # Of a model that nobody would take, it asks for nothing.
    rows = small_rows(3)
    rows[1].metrics["val/segmentation/miou"] = 0.1
    record("s", rows, tasks=TASKS)
    path.write_text(json.dumps(summary))
    text, remedy = sentence(said(built), "no weight left")
    assert text.startswith("s-00001 (not on the front) has no weight left in")
    assert remedy == ""


def test_failures_name_their_cause(record: Record) -> None:
    rows = small_rows(4)
    rows += [
        Row(number=4 + n, method="snip", status="failed", reason="the training loss is nan")
        for n in range(2)
    ]
    text, remedy = sentence(said(record("s", rows, tasks=TASKS)), "failed, ")
    assert text.startswith("2 of 6 trials failed, 2 of them because a loss or a score")
    assert "optimiser.learning_rate" in remedy
    for row in rows[4:]:
        row.reason = "out of memory: 8 GB wanted"
    found = said(record("t", rows, tasks=TASKS))
    assert "out of memory: 8 GB wanted" in sentence(found, "failed, ")[1]


def test_a_search_that_still_gains(record: Record) -> None:
    rows = small_rows(8)
    for row in rows[-2:]:
        row.metrics |= {"cost/density": 0.01 * row.number, "val/segmentation/miou": 0.9}
    text, remedy = sentence(said(record("s", rows, tasks=TASKS)), "to the hypervolume")
    assert text.startswith("Measured: the last 2 of 8 trials")
    assert "python -m search extend s --trials K" in remedy
    few = sentence(said(record("t", small_rows(3), tasks=TASKS)), "Whether the search still gains")
    assert few[1] == ""


def test_what_the_search_believes_it_left(record: Record) -> None:
    further = {"trials": 12, "gain": 0.0137}
    built = record("s", small_rows(4), tasks=TASKS, facts={"further": further})
    text = (
        "Estimated by the search, more likely too high than too low: 12 more trials at full "
        "length could add up to 1.4 % to the hypervolume, supposing that they find the best of "
        "many untried settings."
    )
    assert sentence(said(built), "Estimated by the search") == (text, "")
    assert render(figures.find(load_study("s", built.storage)), "c").count(text) == 2
    facts = {"further": {**further, "trials": 1}, "plateau": {"used": 9}}
    for gain, adds in (
        (0.995, "could add up to 100 % to the hypervolume, supposing"),
        (1e-6, "could add up to less than 0.01 % to the hypervolume, supposing"),
        (1.5, "12 more trials at full length would add is not known"),
    ):
        assert adds in further_text({"further": {**further, "gain": gain}})
    ended = record("t", small_rows(4), tasks=TASKS, facts=facts)
    words = sentence(said(ended), "1 more trial at full length")[0]
    assert words.endswith(" many untried settings. It ended there, at a plateau.")
    assert not any("Estimated" in text for text in said(record("u", small_rows(4), tasks=TASKS)))


def test_settings_at_the_edge(record: Record) -> None:
    rate = "optimiser.learning_rate"
    ranges = {rate: {"low": 1e-4, "high": 1e-2, "log": True, "whole": False}}
    rows = small_rows(4)
    for row in rows:
        row.params = {rate: 9.9e-3}
    built = record("s", rows, tasks=TASKS, facts={"ranges": ranges})
    text, remedy = sentence(said(built), "lie at the upper end")
    assert text.startswith(f"Of the front's members, 4 have {rate}, and 4 of these")
    assert "widen" in remedy
    for row in rows:
        row.params = {rate: 1e-3}
    inside = record("t", rows, tasks=TASKS, facts={"ranges": ranges})
    assert sentence(said(inside), "At no end of a range are there more of the front's")[1] == ""


@pytest.mark.parametrize(("factor", "weak"), [(1.0, False), (-1.0, True)])
def test_the_order_at_rungs(record: Record, factor: float, weak: bool) -> None:
    rows = small_rows(9)
    built = record("s", rows, tasks=TASKS, facts={"scheduler": SCHEDULER})
    for row in rows:
        write_reports(built, row, factor * row.metrics["val/segmentation/miou"])
    text, remedy = sentence(said(built), "The order of trials at 50 %")
    assert text == (
        "The order of trials at 50 % of training and that at the end have a correlation of "
        f"{factor:.2f} over all tasks (95 % interval {factor:.2f} to {factor:.2f}; from the 9 "
        f"trials that ran to the end). Among these, Spearman's ρ is {factor:.2f} for segmentation "
        f"mIoU (Kendall's τ {factor:.2f})."
    )
    assert bool(remedy) == weak


def test_an_order_is_judged_with_the_trials_that_it_stopped(record: Record) -> None:
    """The 10 that ended stand close together at the rung, in a loose order (ρ = 0.43).

    Beside the 20 that were stopped far below them, the order lasts.
    """
    shuffled = [4, 1, 5, 0, 8, 2, 9, 3, 7, 6]
    rows = small_rows(30)
    for row in rows[:20]:
        row.status, row.fraction = "stopped", 0.5
    for row, place in zip(rows[20:], shuffled, strict=True):
        row.metrics["val/segmentation/miou"] = 0.8 + 0.01 * place
    built = record("s", rows, tasks=TASKS, facts={"scheduler": SCHEDULER})
    for row in rows:
        write_reports(built, row, 0.1 + 0.01 * row.number)
    text, remedy = sentence(said(built), "The order of trials at 50 %")
    assert "from the 10 of 30 trials that ran to the end, corrected for their being the" in text
    assert "Spearman's ρ is 0.43 for segmentation mIoU" in text
    assert remedy == ""


@pytest.mark.parametrize("facts", [{"scheduler": None}, {"scheduler": "none"}, {}])
def test_without_a_scheduler_no_order_matters(record: Record, facts: dict[str, Any]) -> None:
    found = said(record("s", small_rows(3), tasks=TASKS, facts=facts))
    assert sentence(found, "No trial is stopped early")[1] == ""


def test_too_few_seeds_and_trainings_that_failed(record: Record) -> None:
    rows = small_rows(2)
    for place, seed in enumerate((901, 902, 903)):
        rows.append(confirming(rows[0], 2 + place, seed, 0.01 * place))
    rows[-1].status, rows[-1].metrics = "failed", {}
    built = record("s", rows, tasks=TASKS)
    found = said(built)
    assert (
        "--seeds 5"
        in sentence(found, "1 of the front's 2 members is confirmed at 2 fresh seeds: intervals")[1]
    )
    assert sentence(found, "s-00001 of the front is not confirmed")[1]
    text, remedy = sentence(found, "s-00000 (on the front): 1 of 3 fresh trainings failed")
    assert text.endswith("failed: no reason recorded (s-00004). These trainings count in no mean.")
    # What failed is not tried again at its seed, so the advice has to ask for further ones.
    command = f"`{python()} -m search confirm s --seeds 5 --storage {built.storage}` adds others."
    assert remedy.endswith(command)


def test_an_empty_study_has_a_health_section_too(record: Record) -> None:
    built = record("s", [], tasks=TASKS)
    assert all(not remedy for remedy in said(built).values())
    assert 'id="health"' in render(figures.find(load_study("s", built.storage)), "c")
