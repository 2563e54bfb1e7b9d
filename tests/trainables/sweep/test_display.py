"""The progress display: lines for people, each note once, nothing with --quiet."""

import pytest

from trainables.sweep.display import Progress


@pytest.mark.parametrize("quiet", [False, True])
def test_what_many_trials_say_alike_is_printed_once(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(trials=3, finished=0, objectives=(), quiet=quiet) as progress:
        for text in ("256 of 1,000 parameters stay dense", "another", "another") * 2:
            progress.note(text)
    said = capsys.readouterr().out.splitlines()
    whole = ["note: 256 of 1,000 parameters stay dense", "note: another"]
    assert said == ([] if quiet else whole)
