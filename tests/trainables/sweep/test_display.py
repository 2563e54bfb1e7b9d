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
        progress.started("first", "rigl", 0.0)
        progress.started("second", "rigl", 0.0)
        now += 20.0
        progress.reported("second", 0.9, {})
        progress.ended("first", "complete", "", {})
    # 1.9 trials in 20 s, and 6.1 are left.
    assert "complete 20 s, about 64 s left" in capsys.readouterr().out


@pytest.mark.parametrize("said", [True, False])
def test_what_an_earlier_launch_trained_is_no_pace_of_this_one(
    said: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 16 trials of 200 s, four at once, the first four are resumed at 88 %."""
    now = 1000.0
    monkeypatch.setattr("trainables.sweep.display.time.monotonic", lambda: now)
    with Progress(trials=16, finished=0, objectives=(), quiet=False) as progress:
        for name in "abcd":
            progress.started(name, "rigl", 0.88 if said else None)
            progress.reported(name, 0.88, {})
        now += 24.0
        for name in "bcd":
            progress.reported(name, 1.0, {})
        progress.ended("a", "complete", "", {})
    # 4 x 0.12 of a trial in 24 s, and 12 are left, as the other three are at their ends.
    assert "about 10 min left" in capsys.readouterr().out


def test_a_trial_that_was_given_back_begins_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("trainables.sweep.display.time.monotonic", lambda: now)
    with Progress(trials=2, finished=0, objectives=(), quiet=False) as progress:
        progress.started("lost", "rigl", 0.0)
        progress.reported("lost", 0.9, {})
        progress.started("other", "rigl", 0.0)
        now += 30.0
        progress.started("lost", "rigl", 0.0)  # its node has gone, with what it had trained
        progress.ended("other", "complete", "", {})
    assert "complete 30 s, about 30 s left" in capsys.readouterr().out
