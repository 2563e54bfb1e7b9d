"""What the two studies of a setting are: options settled against what earlier launches recorded.

`STORAGE/claims/NAME.json` records what was asked for and how it went. A later launch takes from
there what its command line leaves out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.claims.protocol import SYSTEMS, Setting, check_systems
from benchmarks.claims.tuning import Budget, default_settings, make_budget
from trainables.errors import UserError
from trainables.terminal.command_line import parse_settings

_OPTIONS = {
    "steps": "--steps",
    "seeds": "--seeds",
    "systems": "--systems",
    "overrides": "--set",
}
_ELSEWHERE = {"training.steps": "use --steps", "data.tasks": "the protocol names the tasks"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The command line. None: as recorded by an earlier launch, or the protocol's.

    data_roots: folder of the converted data, by data set.
    overrides: `name=value`, for every trial.
    export_grids: where grids go that are to be trained on a host without Ray, instead of training.
    import_from: where the sweeps of such grids are, a folder for each study.
    """

    storage: Path = Path("runs")
    data_roots: Mapping[str, str] = field(default_factory=dict)
    steps: int | None = None
    seeds: int | None = None
    systems: tuple[str, ...] | None = None
    overrides: tuple[str, ...] | None = None
    concurrency: int | None = None
    quiet: bool = False
    export_grids: Path | None = None
    import_from: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One setting with its options settled: what its two studies are."""

    setting: Setting
    storage: Path
    data_root: str | None
    steps: int
    seeds: int
    systems: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def record_path(self) -> Path:
        """Return the file that records what was run."""
        return record_path(self.storage, self.setting)

    def trials_path(self, study: str) -> Path:
        """Return the table of a study's trials."""
        return self.storage / study / "trials.parquet"

    def settings_path(self, which: str) -> Path:
        """Return the file of settings that a study is given."""
        return self.storage / "claims" / f"{self.setting.name}.{which}.json"

    def asked(self) -> dict[str, Any]:
        """What the record keeps, for later launches."""
        return {
            "data_root": self.data_root,
            "steps": self.steps,
            "seeds": self.seeds,
            "systems": list(self.systems),
            "overrides": list(self.overrides),
        }

    def budgets(self) -> dict[str, Budget]:
        """By system, from the presets as they are now."""
        overrides = parse_settings(self.overrides)
        return {
            system: make_budget(
                system, default_settings(system, self.setting, self.steps, overrides)
            )
            for system in self.systems
        }

    def command(self, study: str, *, seed: int, seeds: int, systems: Sequence[str],
                sparsities: Sequence[float], settings: Path,
                overrides: Sequence[str] = ()) -> list[str]:  # fmt: skip
        """The study as a command line; concurrency and verbosity, which decide nothing, apart."""
        line = ["python", "-m", "search", "baselines", self.setting.recipe, "--name", study]
        line += ["--seed", str(seed), "--seeds", str(seeds), "--methods", ",".join(systems)]
        line += ["--sparsities", ",".join(f"{s:g}" for s in sparsities)]
        line += ["--settings", str(settings), "--storage", str(self.storage)]
        if self.data_root is not None:
            line += ["--data-root", self.data_root]
        line += ["--set", f"data.tasks={','.join(self.setting.tasks)}"]
        line += ["--set", f"training.steps={self.steps}"]
        for item in (*self.overrides, *overrides):
            line += ["--set", item]
        return line


def record_path(storage: Path, setting: Setting) -> Path:
    """Return the file that records what was run."""
    return storage / "claims" / f"{setting.name}.json"


def read_record(storage: Path, setting: Setting) -> dict[str, Any]:
    """What earlier launches left; empty where there was none. Raises `UserError`."""
    path = record_path(storage, setting)
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{str(path)!r} must be a JSON object ({error}); restore it") from None


def settle(setting: Setting, options: Options) -> Job:
    """The job that `options` ask for, or that they go on with.

    Raises `UserError` for options that differ from those a recorded launch was given.
    """
    known: dict[str, Any] = read_record(options.storage, setting).get("asked", {})
    root = options.data_roots.get(setting.dataset)
    wanted: dict[str, Any] = {
        "data_root": None if root is None else str(Path(root)),
        "steps": options.steps,
        "seeds": options.seeds,
        "systems": None if options.systems is None else list(options.systems),
        "overrides": None if options.overrides is None else list(options.overrides),
    }
    usual: dict[str, Any] = {"data_root": None, "steps": setting.steps, "seeds": setting.seeds}
    usual |= {"systems": list(SYSTEMS), "overrides": []}
    asked: dict[str, Any] = {}
    for name, value in wanted.items():
        # Data that was moved is the same data.
        if name != "data_root" and value is not None and value != known.get(name, value):
            raise UserError(
                f"the claims on {setting.name} were begun with {_OPTIONS[name]} "
                f"{_said(known[name])}, got {_said(value)}; leave it out to go on, or name "
                "another --storage"
            )
        asked[name] = value if value is not None else known.get(name, usual[name])
    for name in parse_settings(asked["overrides"]):
        if name in _ELSEWHERE:
            raise UserError(f"`--set {name}=…` cannot be used here; {_ELSEWHERE[name]}")
    return Job(
        setting=setting,
        storage=options.storage,
        data_root=asked["data_root"],
        steps=int(asked["steps"]),
        seeds=int(asked["seeds"]),
        systems=check_systems(asked["systems"]),
        overrides=tuple(asked["overrides"]),
    )


def _said(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
