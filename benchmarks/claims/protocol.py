"""What is claimed, on which data, and when a claim counts as true: settled before any run.

Claims are those of DiSparse (Sun et al. 2022): the comparisons of its tables 1 to 5, that a
moderate sparsity costs nothing, and its figure 3 (tasks agree in the first layers and part
company deeper). Plain data; nothing here reads a result.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from spaces.presets import DENSE_METHODS
from trainables.errors import unknown_name

SPARSITIES = (0.3, 0.9)
TUNING_SPARSITY = 0.9
TUNING_SEED = 1000  # never a seed of a final study, which count from 0
FIRST_SEED = 0
INTERVAL_LEVEL = 0.95

# A comparison holds when the whole interval of Delta_T lies above 0, and does not hold when all of
# it lies below. Lossless is non-inferiority: above minus this many percent of the dense model.
COMPARISON_MARGIN_PERCENT = 0.0
LOSSLESS_MARGIN_PERCENT = 2.0

VERDICTS = ("holds", "does not hold", "undecided", "not run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One data set with its tasks: a tuning study and a final study.

    recipe: of `search baselines`, whose data set and preset these are.
    steps: of training, pre-training included, unless the command line says otherwise.
    tuning_overrides: of the tuning study alone. It has no use for the test split, and every trial
      ends with an evaluation on it.
    """

    name: str
    title: str
    recipe: str
    dataset: str
    preset: str
    tasks: tuple[str, ...]
    steps: int
    seeds: int
    tuning_overrides: tuple[str, ...] = ()

    @property
    def tuning_study(self) -> str:
        """The name of the study that tunes."""
        return f"claims-{self.name}-tuning"

    @property
    def final_study(self) -> str:
        """The name of the study whose trials are compared."""
        return f"claims-{self.name}"


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting(
            name="scenes",
            title="scenes, five tasks",
            recipe="scenes-tiny",
            dataset="scenes",
            preset="tiny",
            tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
            steps=400,
            seeds=5,
        ),
        Setting(
            name="nyu-v2-normals",
            title="NYU-v2, segmentation and normals",
            recipe="nyu-v2-small",
            dataset="nyu-v2",
            preset="small",
            tasks=("segmentation", "normals"),
            steps=600,
            seeds=3,
            tuning_overrides=("data.num_test=8",),
        ),
        Setting(
            name="nyu-v2-depth",
            title="NYU-v2, segmentation and depth",
            recipe="nyu-v2-small",
            dataset="nyu-v2",
            preset="small",
            tasks=("segmentation", "depth"),
            steps=600,
            seeds=3,
            tuning_overrides=("data.num_test=8",),
        ),
    )
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairClaim:
    """`method` at `sparsity` is at least as good as `reference` (same sparsity, or dense).

    margin_percent: of Delta_T, by which the method may be worse.
    """

    method: str
    reference: str
    sparsity: float
    margin_percent: float = COMPARISON_MARGIN_PERCENT

    @property
    def reference_sparsity(self) -> float | None:
        """The sparsity that the reference is taken at; None for a dense one."""
        return None if self.reference in DENSE_METHODS else self.sparsity

    @property
    def group(self) -> str:
        """The sentence of the paper that this is a case of."""
        if self.reference == "dense":
            return "lossless"
        return "multitask" if self.reference in DENSE_METHODS else "pruning"

    @property
    def name(self) -> str:
        """The name in tables and files."""
        return f"{self.method}-{self.reference}-{round(100 * self.sparsity)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class WatershedClaim:
    """Agreement among the tasks' own masks falls from the first shared layer to the last."""

    method: str
    sparsity: float

    @property
    def name(self) -> str:
        """The name in tables and files."""
        return f"watershed-{self.method}-{round(100 * self.sparsity)}"


_PRUNING_PAIRS = (
    ("disparse-static", ("snip", "lth", "random")),
    ("disparse-dynamic", ("rigl",)),
    ("disparse-pretrained", ("imp", "random-pretrained")),
)

PAIR_CLAIMS: tuple[PairClaim, ...] = (
    *(
        PairClaim(method=method, reference=reference, sparsity=sparsity)
        for method, references in _PRUNING_PAIRS
        for reference in references
        for sparsity in SPARSITIES
    ),
    *(
        PairClaim(method=method, reference=reference, sparsity=0.9)
        for method in ("disparse-static", "disparse-dynamic")
        for reference in ("cross-stitch", "sluice", "den")
    ),
    *(
        PairClaim(
            method=method, reference="dense", sparsity=0.3, margin_percent=LOSSLESS_MARGIN_PERCENT
        )
        for method in ("disparse-static", "disparse-dynamic", "disparse-pretrained")
    ),
)

WATERSHED_CLAIMS: tuple[WatershedClaim, ...] = tuple(
    WatershedClaim(method="disparse-static", sparsity=sparsity) for sparsity in SPARSITIES
)

SYSTEMS: tuple[str, ...] = (
    "dense",
    "random",
    "snip",
    "lth",
    "imp",
    "rigl",
    "random-pretrained",
    "disparse-static",
    "disparse-dynamic",
    "disparse-pretrained",
    "cross-stitch",
    "sluice",
    "den",
)


def get_settings(names: Iterable[str]) -> tuple[Setting, ...]:
    """By name, in the order of `SETTINGS`; all where none is named. Raises `UserError`."""
    wanted = set(names)
    for name in sorted(wanted):
        if name not in SETTINGS:
            raise unknown_name("setting of the claims", name, SETTINGS)
    return tuple(s for s in SETTINGS.values() if not wanted or s.name in wanted)


def check_systems(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct systems in the order of `SYSTEMS`. Raises `UserError` for one without a budget."""
    wanted = set(names)
    for name in sorted(wanted):
        if name not in SYSTEMS:
            raise unknown_name("system of the claims", name, SYSTEMS)
    return tuple(s for s in SYSTEMS if s in wanted)


def num_trials(systems: Iterable[str], *, num_sparsities: int, num_seeds: int) -> int:
    """Of a grid in which dense systems are trained once per seed."""
    return sum(num_seeds * (1 if s in DENSE_METHODS else num_sparsities) for s in systems)
