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


def test_the_time_left_counts_what_is_under_way_and_no_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("trainables.sweep.display.time.monotonic", lambda: now)
    with Progress(trials=8, finished=0, objectives=(), quiet=False) as progress:
        now += 60.0  # Ray starts
        progress.started("first", "rigl")
        progress.started("second", "rigl")
        now += 20.0
        progress.reported("second", 0.9, {})
        progress.ended("first", "complete", "", {})
    # 1.9 trials in 20 s, and 6.1 are left.
    assert "complete 20 s, about 64 s left" in capsys.readouterr().out
