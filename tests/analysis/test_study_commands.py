"""Commands are written as they have to be typed: with the folder of the study."""

import html
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.report import figures
from analysis.report.report import render
from analysis.report.sections import health
from analysis.studies.trials import load_study
from analysis.tables import plain_choices, plain_words
from tests.analysis.built_studies import BuiltStudy, confirming, simple_row
from trainables.terminal.as_typed import python, study_command


@pytest.mark.parametrize(
    ("storage", "ending"),
    [
        ("runs", ""),
        ("{here}/runs", ""),
        ("other/runs", " --storage other/runs"),
        ("{here}/my runs", " --storage 'my runs'"),
        ("/elsewhere/runs", " --storage /elsewhere/runs"),
    ],
)
def test_the_folder_is_said_unless_it_is_the_default(
    storage: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(storage.format(here=tmp_path))
    said = study_command("search confirm", "demo", folder, "--seeds", "5")
    assert said == f"{python()} -m search confirm demo --seeds 5{ending}"


@pytest.mark.parametrize("confirmed", [False, True])
def test_every_command_that_names_a_study_says_where_it_is(
    record: Callable[..., BuiltStudy], confirmed: bool
) -> None:
    rows = [simple_row(0, "dense", 1.0, 0.5)]
    rows += [simple_row(n, "snip", 0.1 * n, 0.3 + 0.02 * n) for n in range(1, 12)]
    if confirmed:
        rows.append(confirming(rows[0], len(rows), 900, -0.01))
    built = record("demo", rows, tasks=("segmentation",))
    study = load_study("demo", built.storage)
    found = figures.find(study)
    page = html.unescape(render(found, ""))
    told = [*health.lines(found), page, plain_words.text(plain_choices.choices(study))]
    commands = re.findall(r"-m \w+ \w+ demo[^`\"\n\u201d]*", "\n".join(told))
    kinds = {" ".join(command.split()[1:3]) for command in commands}
    assert {"search confirm", "search extend", "search ship", "analysis pick"} <= kinds
    assert [c for c in commands if f"--storage {built.storage}" not in c] == []
