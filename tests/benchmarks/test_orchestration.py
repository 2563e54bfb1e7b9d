"""The orchestration benchmark: its arithmetic, its simulated study, and one real pair."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.orchestration.__main__ import table
from benchmarks.orchestration.growth import decisions
from benchmarks.orchestration.trainables import NUM_REPORTS, report
from search.record.outcomes import judge

REPOSITORY = Path(__file__).resolve().parents[2]
OBJECTIVES = (
    "val/segmentation/miou",
    "val/normals/mean_error_deg",
    "val/depth/absolute_error",
    "cost/density",
)


def row(system: str, rate: float) -> dict[str, Any]:
    return {
        "system": system,
        "trials_per_second": rate,
        "driver_cpu_ms_per_trial": 1.0,
        "other_cpu_ms_per_trial": 2.0,
        "peak_driver_mib": 3.0,
    }


def test_ratios_are_to_the_faster_raw_ray_of_the_round() -> None:
    rates = {"raw": (10.0, 20.0, 30.0), "raw-class": (20.0, 10.0, 5.0), "ours-tpe": (16.0, 15, 30)}
    rows = [row(name, rate[n]) for n in range(3) for name, rate in rates.items()]
    lines = list(table(rows))[1:]
    assert [line.split()[:4] for line in lines] == [
        ["raw", "20.00", "1.000", "-"],  # 0.5, 1, 1
        ["raw-class", "10.00", "0.500", "-"],
        ["ours-tpe", "16.00", "0.800", "-"],  # 0.8, 0.75, 1
    ]
    assert lines[2].endswith("target >= 0.8: met")
    assert "target" not in lines[0]


def test_what_draws_alike_is_compared_too() -> None:
    rates = {"raw": 20.0, "raw-tpe": 8.0, "ours-random": 18.0, "ours-tpe": 7.0}
    lines = list(table([row(name, rate) for name, rate in rates.items()]))[1:]
    assert [line.split()[2:4] for line in lines] == [
        ["1.000", "-"],
        ["0.400", "-"],
        ["0.900", "0.900"],
        ["0.350", "0.875"],
    ]
    assert lines[3].endswith("target >= 0.8: met")
    alone = list(table([row("ours-tpe", 1.0)]))[1:]
    assert [line.split()[:4] for line in alone] == [["ours-tpe", "1.00", "-", "-"]]


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
        [
            sys.executable,
            "-m",
            "benchmarks.orchestration.growth",
            "grow",
            "12",
            "random",
            "journal",
        ],
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
@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(400)
def test_a_pair_in_fresh_processes(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.orchestration", "--trials", "4", "--grow", "0"]
    command += ["--concurrent", "2", "--systems", "raw,ours-random", "--json", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(target.read_text())["systems"]
    assert [row["system"] for row in rows] == ["raw", "ours-random"]
    for found in rows:
        assert found["seconds"] > 0
        assert found["driver_cpu_ms_per_trial"] > 0
        assert found["other_cpu_ms_per_trial"] > 0
    assert "ours-random" in done.stdout


def test_an_unknown_system_is_named() -> None:
    command = [sys.executable, "-m", "benchmarks.orchestration", "--systems", "theirs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 2
    assert "'theirs'" in done.stderr
