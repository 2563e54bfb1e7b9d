"""What every test shares: deterministic CPU settings, skips that say why, a place to write."""

import os
from pathlib import Path

import hypothesis
import pytest

# A slow machine is no failure.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray's workers are content with what others leave of the processor; beside other tests, nothing is.
os.environ.setdefault("RAY_worker_niceness", "0")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _cpu_settings() -> None:
    """Denormals flushed (saturated tiny networks crawl otherwise), one thread per worker."""
    import torch

    torch.set_flush_denormal(True)
    torch.set_num_threads(1)


@pytest.fixture
def runs_directory(tmp_path: Path) -> Path:
    """An empty folder in place of the repository's `runs/`."""
    directory = tmp_path / "runs"
    directory.mkdir()
    return directory


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository root: the working directory that `python -m search` expects."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by `DISPARSE_DATA`; its tests carry the marker `realdata`."""
    problem = _real_data_problem()
    if problem:
        pytest.skip(problem)
    return Path(os.environ["DISPARSE_DATA"])


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("realdata") and (problem := _real_data_problem()):
        pytest.skip(problem)
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


def _real_data_problem() -> str | None:
    folder = os.environ.get("DISPARSE_DATA")
    if not folder:
        return "DISPARSE_DATA is not set: name the folder that holds nyuv2/ to run this"
    if not Path(folder).is_dir():
        return f"DISPARSE_DATA={folder} is not a folder"
    return None
