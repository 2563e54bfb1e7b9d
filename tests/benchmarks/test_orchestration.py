"""The orchestration benchmark: its arithmetic, its simulated study, and one real pair."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.orchestration.__main__ import table
from benchmarks.orchestration.growth import decisions
from benchmarks.orchestration.systems import RayClock, share_of_a_minute
from benchmarks.orchestration.trainables import NUM_REPORTS, report
from search.record.outcomes import judge

REPOSITORY = Path(__file__).resolve().parents[2]
OBJECTIVES = (
    "val/segmentation/miou",
    "val/normals/mean_error_deg",
    "val/depth/absolute_error",
    "cost/density",
)


def row(system: str, rate: float, share: float) -> dict[str, Any]:
    return {
        "system": system,
        "trials_per_second": rate,
        "share_of_a_minute": share,
        "driver_cpu_ms_per_trial": 1.0,
        "other_cpu_ms_per_trial": 2.0,
        "driver_start_mib": 100.0,
        "driver_end_mib": 123.0,
    }


def test_a_system_is_a_line_of_medians_over_rounds() -> None:
    found = {
        "raw": ((10.0, 0.001), (30.0, 0.2), (20.0, 0.002)),
        "random": ((16.0, 0.01), (15.0, 0.06), (30.0, 0.001)),
        "curves-asha": ((1.0, 0.0101),) * 3,
    }
    rows = [row(name, *found[name][n]) for n in range(3) for name in found]
    lines = list(table(rows))[1:]
    assert [line.split()[:3] for line in lines] == [
        ["raw", "20.00", "0.20"],
        ["random", "16.00", "1.00"],
        ["curves-asha", "1.00", "1.01"],
    ]
    assert lines[1].split()[4:8] == ["1.0", "2.0", "100", "123"]
    assert "target" not in lines[0]  # raw Ray is information
    assert lines[1].endswith("target <= 1 %: met")
    assert lines[2].endswith("target <= 1 %: MISSED")


@pytest.mark.parametrize(
    ("seconds", "trials", "concurrent", "share"),
    [
        (60.0, 1, 1, 0.5),  # a minute of its own beside each minute of training
        (60.0, 60, 1, 1 / 61),
        (60.0, 60, 2, 2 / 62),  # each of two places took two seconds for each of its 30 trials
        (60.0, 1, 8, 0.5),  # seven places had nothing to do
    ],
)
def test_the_share_of_a_minute(seconds: float, trials: int, concurrent: int, share: float) -> None:
    assert share_of_a_minute(seconds, trials, concurrent) == pytest.approx(share, rel=1e-12)


def test_memory_is_read_after_rays_start_and_before_its_end() -> None:
    clock = RayClock()
    kept: list[bytearray] = []
    clock.timed(lambda: kept.append(bytearray(2**25)), ends=False)()
    kept.append(bytearray(2**26))
    clock.timed(lambda: kept.append(bytearray(2**27)), ends=True)()
    start, end = clock.resident_mib
    assert 64 - 16 < end - start < 64 + 16  # neither the 32 MiB before nor the 128 after
    assert clock.seconds > 0


def test_the_trial_is_one_that_a_study_takes_for_complete() -> None:
    first, last = report(1, 0.25), report(NUM_REPORTS, 0.25)
    assert last["val/segmentation/miou"] == 0.5
    stopped, complete = judge(first, OBJECTIVES), judge(last, OBJECTIVES)
    assert stopped is not None
    assert complete is not None
    assert (stopped.status, complete.status) == ("stopped", "complete")


def test_every_size_has_its_row() -> None:
    rows = list(decisions(250, 2))
    assert [row["records"] for row in rows] == [100, 250]
    assert all(row["decision_ms"] > 0 for row in rows)


@pytest.mark.timeout(120)
def test_a_simulated_study_is_recorded_for_real() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.orchestration.growth", "grow", "12", "random"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    grown, closed = map(json.loads, done.stdout.strip().splitlines())
    assert grown["trials"] == 12
    assert all(grown[f"{part}_ms"] > 0 for part in ("ask", "record", "tell"))
    assert grown["resident_mib"] > 50
    assert closed["unwritten"] == ""


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_pair_in_fresh_processes(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.orchestration", "--trials", "4", "--grow", "0"]
    command += ["--concurrent", "2", "--systems", "raw,random", "--json", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(target.read_text())["systems"]
    assert [row["system"] for row in rows] == ["raw", "random"]
    for found in rows:
        assert found["seconds"] > 0
        assert found["driver_cpu_ms_per_trial"] > 0
        assert found["other_cpu_ms_per_trial"] > 0
        assert 0 < found["share_of_a_minute"] < 1
        assert found["driver_start_mib"] > 50
        assert found["driver_end_mib"] > 50
    assert "random" in done.stdout


def test_an_unknown_system_is_named() -> None:
    command = [sys.executable, "-m", "benchmarks.orchestration", "--systems", "theirs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert "'theirs'" in done.stderr
