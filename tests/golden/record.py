"""Trains five methods for twenty steps each and stores their loss curves.

    python -m tests.golden.record

The file it writes, `tests/golden/loss_curves.json`, is what `test_loss_curves.py` compares with.
A change that should not move any number leaves this file alone. Record it again only together
with the evidence that CONTRIBUTING asks for under "Proof of value".
"""

import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy
import torch

from spaces.presets import trial_config
from trainables.report import PRIMARY_METRICS
from trainables.training.trial import TrialRun

FILE = Path(__file__).with_name("loss_curves.json")
COMMAND = "python -m tests.golden.record"
METHODS = ("dense", "snip", "rigl", "disparse-static", "disparse-dynamic")
SETTINGS = {
    "data.num_train": 48,
    "data.num_test": 8,
    "training.steps": 20,
    "training.num_reports": 5,
    "training.batch_size": 4,
    "training.precision": "fp32",
    "sparsity.saliency_batches": 3,
    "regrowth.interval_steps": 4,
}

Curve = list[dict[str, float]]  # one dictionary per report


def environment() -> dict[str, str]:
    """Return what decides the last bits of a result: library versions and the kind of CPU."""
    return {
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "machine": platform.machine(),
        "cpu": _cpu_kind(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def train_curve(method: str, data_root: Path) -> Curve:
    """Train `method` on one thread and return its reports.

    Every report holds "step", "training/loss" (the mean since the report before), "kept" (a
    number of weights) and each task's primary metric on validation; the last one adds the same
    metrics on test. data_root: a folder for the generated frames, which all methods share.
    """
    config = trial_config(
        method, "scenes", "tiny", sparsity=0.9, root=str(data_root), overrides=SETTINGS
    )
    names = [f"{split}/{name}" for split in ("val", "test") for name in PRIMARY_METRICS.values()]
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run = TrialRun(config, device="cpu")
        curve = []
        while (report := run.next_report()) is not None:
            shown = {name: report.metrics[name] for name in names if name in report.metrics}
            loss = report.metrics["training/loss"]
            curve.append(
                {"step": report.step, "training/loss": loss, "kept": run.registry.kept, **shown}
            )
    finally:
        torch.set_num_threads(num_threads)
    return curve


def read_recording() -> dict[str, Any]:
    """Return the stored file: "command", "environment" and "curves" by method."""
    return dict(json.loads(FILE.read_text()))


def main() -> None:
    """Train every method and replace the stored file."""
    with tempfile.TemporaryDirectory() as folder:
        curves = {method: train_curve(method, Path(folder) / "scenes") for method in METHODS}
    recording = {"command": COMMAND, "environment": environment(), "curves": curves}
    FILE.write_text(json.dumps(recording, indent=1) + "\n")
    print(f"wrote {FILE}", file=sys.stderr)


def _cpu_kind() -> str:
    """Return the CPU's name, family, model and cache as Linux gives them, or "unknown"."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return "unknown"
    facts = {}
    for line in first.splitlines():
        name, _, value = line.partition(":")
        facts[name.strip()] = value.strip()
    names = ("model name", "cpu family", "model", "cache size")
    return ", ".join(f"{name} {facts[name]}" for name in names if name in facts) or "unknown"


if __name__ == "__main__":
    main()
