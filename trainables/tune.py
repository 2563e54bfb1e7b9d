"""Defines the Ray Tune trainable; this is the only file of the package that imports ray."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment.trial import _TrialInfo

from trainables.sweep.attempt import Attempt
from trainables.sweep.share import Share


class DiSparseTrainable(tune.Trainable):
    """Runs one trial as an actor; `step` trains to the next report.

    The configuration is plain JSON, as `search.execution.launch` builds it: what `Attempt` takes,
    and `reference` and `final_density` for the scheduler, see `search.schedulers.study_scheduler`.
    """

    _attempt: Attempt | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Set the first trial's configuration; Ray calls this once per process."""
        self._use(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Set another trial's configuration in the same process; this is always possible."""
        self.cleanup()
        self._use(new_config)
        return True

    def _use(self, config: dict[str, Any]) -> None:
        study = str(config["name"]).rpartition("-")[0]
        self._attempt = Attempt(
            config,
            share=lambda: _share(self._trial_info),
            command=["python", "-m", "search", "resume", study],
        )

    def step(self) -> dict[str, Any]:
        """Train to the next report and return it as Tune's result; see `Attempt.next_result`."""
        return self._current.next_result()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write a checkpoint with a manifest of its files."""
        self._current.write(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume from `checkpoint`; Ray calls this when it moves a trial."""
        self._current.load(Path(str(checkpoint)))

    def cleanup(self) -> None:
        """Free the trial's memory before the process takes another trial or ends."""
        if self._attempt is not None:
            self._attempt.close()

    @property
    def _current(self) -> Attempt:
        assert self._attempt is not None
        return self._attempt


def _share(info: _TrialInfo | None) -> Share:
    resources: Mapping[str, float] = {}
    if info is not None and info.trial_resources is not None:
        resources = dict(info.trial_resources.required_resources)
    return Share(cpus=resources.get("CPU", 1.0), gpus=resources.get("GPU", 0.0))
