"""The rows of the document's table of what was run: each a label and how a setting shows it."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from analysis.labels import task_label
from benchmarks.claims.results.prose import Setting, duration


def _fact(name: str, show: Callable[[Any], str]) -> Callable[[Setting], str]:
    def cell(setting: Setting) -> str:
        return show(setting["facts"][name]) if setting["facts"] else "not run"

    return cell


def _asked(name: str, show: Callable[[Any], str]) -> Callable[[Setting], str]:
    def cell(setting: Setting) -> str:
        return show(setting["asked"][name]) if setting["asked"] else "not run"

    return cell


def _tuning_alone(setting: Setting) -> str:
    """What the tuning study's recorded command sets beyond what all trials have."""
    if setting["tuning"] is None:
        return "not run"
    command = setting["tuning"]["command"]
    named = [value for option, value in pairwise(command) if option == "--set"]
    shared = set(setting["asked"]["overrides"])
    fixed = ("data.tasks=", "training.steps=")
    alone = [item for item in named if item not in shared and not item.startswith(fixed)]
    return ", ".join(alone) or "none"


def _launches(setting: Setting) -> list[Mapping[str, Any]]:
    studies = [s for s in (setting["tuning"], setting["final"]) if s]
    return [launch for study in studies for launch in study["launches"]]


def _hardware(setting: Setting) -> str:
    shown = dict.fromkeys(
        f"{m['gpu'] + ', ' if m['gpu'] else ''}{m['cpu']}, {m['cores']} cores"
        for m in (launch["machine"] for launch in _launches(setting))
    )
    return "; ".join(shown) or "not run"


def _versions(setting: Setting) -> str:
    shown = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in launch["versions"].items())
        for launch in _launches(setting)
    )
    return "; ".join(shown) or "not run"


def _code(setting: Setting) -> str:
    commits = dict.fromkeys(launch["commit"] for launch in _launches(setting) if launch["commit"])
    return ", ".join(f"`{commit}`" for commit in commits) or "–"


def _time(setting: Setting) -> str:
    studies = [s for s in (setting["tuning"], setting["final"]) if s]
    return duration(sum(s["seconds"] for s in studies)) if studies else "not run"


def _by_size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


ROWS: tuple[tuple[str, Callable[[Setting], str]], ...] = (
    ("data set, preset", lambda s: f"{s['dataset']}, {s['preset']}"),
    ("tasks", lambda s: ", ".join(task_label(t).lower() for t in s["tasks"])),
    ("frames (train, val, test)", _fact("frames", lambda f: ", ".join(map(str, f.values())))),
    ("resolution (crop)", lambda s: f"{_fact('size', _by_size)(s)} ({_fact('crop', _by_size)(s)})"),
    ("parameters of the dense network", _fact("parameters", lambda n: f"{n:,}")),
    ("total steps per trial", _asked("steps", str)),
    ("reports per trial", lambda s: "not run" if s["reports"] is None else str(s["reports"])),
    ("batch", _fact("batch_size", str)),
    (
        "precision",
        _fact("precision", lambda p: "auto (bf16 on CUDA, else fp32)" if p == "auto" else p),
    ),
    ("metric definition", _fact("metrics", str)),
    ("seeds", _asked("seeds", lambda n: f"{n} (0 to {n - 1})")),
    ("settings of all trials", _asked("overrides", lambda o: ", ".join(o) or "the preset's")),
    ("settings of the tuning trials alone", _tuning_alone),
    ("hardware", _hardware),
    ("wall time", _time),
    ("versions", _versions),
    ("code (+: with local changes)", _code),
)
