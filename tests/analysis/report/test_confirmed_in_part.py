"""What is said of a front of which fresh seeds know a part."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.analysis.built_studies import BuiltStudy, Row, simple_row
from tests.analysis.report.test_fresh_doubts import and_one_more, at_fresh_seeds, members
from tests.analysis.test_command_line import run

TASKS = ("segmentation",)
MIOU = "val/segmentation/miou"
Record = Callable[..., BuiltStudy]


def test_a_front_confirmed_in_part_says_who_decides(
    record: Record, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = at_fresh_seeds(members(), 2)
    for row in rows:
        if row.confirms == 2:
            row.metrics[MIOU] = 0.45
    asked = ("--max-loss", "5", "--best", "cost/density", "--json", "-")

    def answer(name: str, made: Sequence[Row]) -> tuple[str, dict[str, Any]]:
        storage = record(name, made, tasks=TASKS).storage
        assert run(monkeypatch, "pick", name, *asked[:-2], "--storage", storage) == 0
        said = capsys.readouterr().out
        assert run(monkeypatch, "pick", name, *asked, "--storage", storage) == 0
        return said, json.loads(capsys.readouterr().out)

    said, told = answer("part", and_one_more(rows))
    assert told["trial"] == "part-00002"
    assert "1 of the 4 models on the front is not confirmed (part-00009), so values at" in said
    assert "search confirm part --seeds 2" in said
    assert "at 2 fresh seeds: segmentation 10 % worse, beside the dense model; it misses" in said
    assert told["front_unconfirmed"] == ["part-00009"]
    assert told["confirm"] in said
    fresh = told["at_fresh_seeds"]
    assert fresh["missed_bounds"] == ["segmentation/miou>=95%"]
    assert fresh["loss_percent"] == pytest.approx({MIOU: 10.0})
    # Confirmed as a whole, or not at all, there is nothing to say.
    for name, made in (("whole", rows), ("none", members())):
        said, told = answer(name, made)
        assert "  but " not in said
        assert told["front_unconfirmed"] == []
    # A model that is new itself.
    bare = [*rows, simple_row(9, "set", 0.15, 0.490)]
    said, told = answer("bare", bare)
    assert told["trial"] == "bare-00009"
    assert "this model is not confirmed: its own values are of one seed" in said
