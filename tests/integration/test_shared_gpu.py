"""Four trials on one GPU, each with a quarter: at once, and a greedy one fails alone."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.integration.records import REPOSITORY, environment

PROGRAM = Path(__file__).with_name("programs") / "shared_gpu.py"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_trials_share_a_gpu_and_a_greedy_one_fails_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=REPOSITORY,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said == {"finished": 4, "failed": 1, "left": 0}
    rows = pq.read_table(tmp_path / "runs" / "shared" / "trials.parquet").to_pylist()
    rows.sort(key=lambda row: row["number"])
    assert [row["status"] for row in rows] == ["complete", "failed", "complete", "complete"]
    assert rows[1]["reason"] == (
        "out of memory on cuda; lower training.batch_size; this trial may take 0.25 of a GPU's "
        "memory: raise --gpus-per-trial"
    )
    # An hour on a quarter of a GPU.
    assert [row["training/gpu_hours"] for row in rows] == [0.25] * 4
