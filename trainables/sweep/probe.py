"""Measures what a trial takes of a GPU, in a process: `python -m trainables.sweep.probe`.

The process reads a trial's configuration from standard input and prints one JSON object. A process
of its own leaves nothing on the GPU.
"""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass

from trainables.config import TrialConfig
from trainables.registry.lookup import DATASET
from trainables.sweep.share import CONTEXT_BYTES

MARGIN = 1.25  # for what a few steps do not show: other methods, other kernels
MAX_TOGETHER = 8  # trials on one GPU: more gain nothing, and each brings its process and its data
_STEPS = 3
_TIME_LIMIT_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuUse:
    """Holds the bytes that a trial's tensors took at most, and those of the whole GPU."""

    used_bytes: int
    total_bytes: int

    def num_together(self, cpus_per_gpu: int) -> int:
        """Return how many such trials fit on one GPU, at least one, with a CPU for each."""
        each = self.used_bytes * MARGIN + CONTEXT_BYTES
        return max(1, min(int(self.total_bytes // each), cpus_per_gpu, MAX_TOGETHER))


def measure_gpu_use(config: TrialConfig) -> GpuUse | None:
    """Return what a trial takes of this machine's first GPU; None where that cannot be measured.

    A few steps and one evaluation are trained. That takes seconds, and nothing is kept.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, subprocess.SubprocessError):
        done = subprocess.run(
            [sys.executable, "-m", "trainables.sweep.probe"],
            input=json.dumps(short(config).to_dict()),
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT_SECONDS,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        return GpuUse(used_bytes=int(found["used"]), total_bytes=int(found["total"]))
    return None


def short(config: TrialConfig) -> TrialConfig:
    """Return a trial of a few steps that needs as much memory at once as `config`."""
    # A data set that is generated would be another one with fewer frames.
    stored = DATASET.find(config.data.dataset).generate is None
    test = {"data.num_test": 2} if stored else {}
    return config.replace(
        {
            **test,
            "training.steps": _STEPS,
            "training.pretrain_steps": min(1, config.training.pretrain_steps),
            "training.reference_steps": _STEPS,
            "training.num_reports": 1,
            "training.prediction_frames": 0,
            "deployment.measure": False,
        }
    )


def main() -> int:
    """Train the trial on standard input, and print its peak of memory."""
    import torch

    from trainables.training.trial import TrialRun

    config = TrialConfig.from_dict(json.load(sys.stdin))
    if not torch.cuda.is_available():
        print("no CUDA device", file=sys.stderr)
        return 1
    run = TrialRun(config, device="cuda")
    while run.next_report() is not None:
        pass
    total = torch.cuda.get_device_properties(0).total_memory
    print(json.dumps({"used": torch.cuda.max_memory_reserved(), "total": total}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
