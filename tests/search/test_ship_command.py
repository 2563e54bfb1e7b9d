"""Check how `python -m search ship` reads its options; nothing is shipped."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from search.__main__ import app
from search.execution import ship
from trainables.errors import UserError


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["--trial", "27"], "trial", 27),
        (["--trial", "demo-00027"], "trial", 27),
        (["--max-loss", "5%"], "max_loss", 5.0),
        (["--max-loss", "2.5"], "max_loss", 2.5),
        ([], "trial", None),
    ],
)
def test_options_are_read_as_meant(
    options: list[str], name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ship.Wanted] = []

    def stop(storage: str, study: str, wanted: ship.Wanted, *_: Any, **__: Any) -> None:
        asked.append(wanted)
        raise UserError("enough")

    monkeypatch.setattr(ship, "ship_from_study", stop)
    CliRunner().invoke(app, ["ship", "demo", "--out", str(tmp_path), *options])
    assert getattr(asked[0], name) == value


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trial", "other-00027"], "`--trial` must be a number or a name of study 'demo'"),
        (["--max-loss", "some"], "`--max-loss` must be a percentage"),
    ],
)
def test_what_cannot_be_meant_is_a_message_of_ours(
    options: list[str], said: str, tmp_path: Path
) -> None:
    ended = CliRunner().invoke(app, ["ship", "demo", "--out", str(tmp_path), *options])
    assert isinstance(ended.exception, UserError)
    assert said in str(ended.exception)
