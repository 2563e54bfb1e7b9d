"""What a result depends on: data, network, hardware, versions."""

import subprocess
from pathlib import Path
from typing import Any

from benchmarks.claims.jobs import Job
from trainables.terminal.command_line import parse_settings

PACKAGES = ("torch", "numpy", "scipy", "pyarrow", "ray", "optuna", "mlflow")


def data_facts(job: Job) -> dict[str, Any]:
    """What the trials are trained on. Opens the data: a wrong folder is heard of at once."""
    from spaces.presets import trial_config
    from trainables.data.catalogue import open_dataset
    from trainables.models.catalogue import build_model

    config = trial_config(
        "dense",
        job.setting.dataset,
        job.setting.preset,
        tasks=job.setting.tasks,
        root=job.data_root,
        total_steps=job.steps,
        overrides=parse_settings(job.overrides),
    )
    dataset = open_dataset(config.data)
    channels = {task: dataset.num_channels(task) for task in config.data.tasks}
    model = build_model(config.model, channels, config.seed)
    return {
        "frames": {
            "train": dataset.train.num_frames,
            "val": dataset.val.num_frames,
            "test": dataset.test.num_frames,
        },
        "size": list(config.data.size),
        "crop": list(config.data.crop),
        "batch_size": config.training.batch_size,
        "precision": config.training.precision,
        "metrics": config.metrics,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def machine() -> dict[str, Any]:
    """The hardware; no names of hosts."""
    from benchmarks.measure import machine_facts

    return {name: machine_facts()[name] for name in ("cpu", "cores", "gpu")}


def commit() -> str | None:
    """Of the code that runs, where git knows it; with a plus where the tree has changes."""
    here = Path(__file__).parent
    try:
        done = [
            subprocess.run(["git", *line], cwd=here, capture_output=True, text=True, check=True)
            for line in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "-uno"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return done[0].stdout.strip() + ("+" if done[1].stdout.strip() else "")
