"""Open the reports of every kind of study in a browser: nothing fails, is empty or overlaps."""

from pathlib import Path

import pytest

from analysis.plots.fronts import uncertainty
from analysis.plots.fronts.bounds import window
from analysis.report import figures
from analysis.report.report import write_report
from analysis.studies.trials import load_study
from tests.analysis.report.browser import BROWSER, probe
from tests.analysis.report.kinds import KINDS

WIDTHS = (480, 900, 1400)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs Chromium on the PATH"),
    pytest.mark.timeout(400),
]


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(k, marks=[] if k in ("search", "confirmed") else [pytest.mark.slow])
        for k in KINDS
    ],
)
def test_a_report_is_whole_at_every_width(kind: str, tmp_path: Path) -> None:
    built = KINDS[kind](tmp_path / "runs")
    found = figures.find(load_study(built.name, built.storage))
    page = write_report(found, tmp_path, "command")
    answers = probe(page, WIDTHS)
    assert sorted(answers) == list(WIDTHS)
    for width, answer in answers.items():
        assert answer["errors"] == [], width
        assert answer["empty"] == [], width
        assert answer["overlaps"] == [], width
        assert answer["sideways"] <= 0, width
        assert answer["figures"] >= 4, width
        assert [hover for hover in answer["hovers"] if not hover[-1]] == [], width
        if kind == "grid":
            assert answer["hovers"] == []
            continue
        hovered = {(plot, name) for plot, name, _ in answer["hovers"]}
        assert len({plot for plot, _ in hovered}) == len(found.fronts)
        if kind == "confirmed":
            bars = [name for _, name in hovered if name == uncertainty.MEAN]
            assert len(bars) == len(found.fronts)
            (*_, depth) = found.fronts
            cut = uncertainty.cut_ends(depth, window(depth).quality_limits)
            assert {upper for _, upper in cut} == {False, True}  # and hovers on arrows fit too
            hovers = [name for _, name, _ in answer["hovers"]]
            assert hovers.count(uncertainty.MEAN) > len(found.fronts)
            names = {one.trial.trial for one in found.fronts[0].confirmed}
            few = len(names & {t.trial for t in found.ended if t.method == found.ended[0].method})
            assert 0 < few < len(names)
            per_front = len(found.fronts)
            assert answer["brushed"] == [{"bars": few, "surfaces": [0]}] * per_front, width
            assert answer["undone"] == [{"bars": len(names), "surfaces": [1]}] * per_front, width
        first = (*found.ended, *found.infeasible)[0].method
        alike = {t.trial for t in (*found.ended, *found.infeasible) if t.method == first}
        assert answer["chosen"].startswith(f"{len(alike)} of "), width
        assert set(answer["selected"]) <= alike, width
        assert answer["selected"], width
