"""Every search that is compared, by name."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.search.fingerprint import pinned
from benchmarks.search.pausing import PausingSystem
from benchmarks.search.simulator import System
from benchmarks.search.systems import botorch_peer, optuna_peers, peers, primo
from benchmarks.search.systems.ours import Ours, Variant
from benchmarks.search.workloads.starts import starts_of
from benchmarks.search.workloads.workload import Workload
from search.plans.rung_settings import RungSettings
from trainables.errors import unknown_name

Role = Literal["ours", "peer", "part"]
OURS, PLAIN_TPE, RANDOM = "ours", "optuna-search", "random"
SHIPPED_TPE = "optuna-search-bare"  # the same without starting points
# On YAHPO's tasks alone.
PRIMO = "primo"
MODEL_PEERS = ("nsga-ii", "tpe-multivariate", "qlognehvi", PRIMO, "gp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """role: `part` is ours with one part changed.

    modules, settings: what its results depend on, see `fingerprint`.
    build: from the workload, the seed, and whether the first trials are those of `starts`.
    concurrency: of its workers; None for as many as the others have.
    whole_trials: whether it trains every trial at full length, whatever the fidelity.
    """

    name: str
    label: str
    role: Role
    modules: tuple[str, ...]
    settings: str
    build: Callable[[Workload, int, bool], System | PausingSystem] = field(repr=False)
    concurrency: int | None = None
    whole_trials: bool = False


def _peer(
    name: str, label: str, build: type[Any], *packages: str, whole_trials: bool = False
) -> Entry:
    """packages: whose versions its results depend on."""
    return Entry(
        name=name,
        label=label,
        role="peer",
        modules=(build.__module__,),
        settings=f"{build.__name__} {pinned(*packages)}".strip(),
        build=lambda workload, seed, starts: build(
            workload, seed, starts_of(workload.space) if starts else ()
        ),
        whole_trials=whole_trials,
    )


def _ours(
    name: str,
    label: str,
    variant: Variant,
    role: Role = "part",
    concurrency: int | None = None,
) -> Entry:
    return Entry(
        name=name,
        label=label,
        role=role,
        modules=("benchmarks.search.systems.ours",),
        settings=repr(variant),
        build=lambda workload, seed, starts: Ours(
            workload, seed, variant, starts_of(workload.space) if starts else ()
        ),
        concurrency=concurrency,
    )


DEFAULT = Variant()
_RAY_AND_OPTUNA = ("ray", "optuna")
_RUNGS = RungSettings()

SYSTEMS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _ours(OURS, "ours", DEFAULT, "ours"),
        _peer(RANDOM, "random", peers.RandomSearch),
        _peer("ray-asha", "Ray ASHA, one metric", peers.RaySingleMetricASHA, "ray"),
        _peer(
            PLAIN_TPE,
            "Ray OptunaSearch (TPE), full fidelity",
            peers.RayOptunaSearch,
            *_RAY_AND_OPTUNA,
        ),
        _peer("moasha", "Syne Tune MOASHA", peers.SyneTuneMOASHA, "syne-tune"),
        Entry(
            name=SHIPPED_TPE,
            label="Ray OptunaSearch (TPE) without starts",
            role="peer",
            modules=("benchmarks.search.systems.peers",),
            settings=f"RayOptunaSearch without starts {pinned(*_RAY_AND_OPTUNA)}",
            build=lambda workload, seed, starts: peers.RayOptunaSearch(workload, seed, ()),
        ),
        _peer("nsga-ii", "Optuna NSGA-II, population 10", optuna_peers.OptunaNSGAII, "optuna"),
        _peer("tpe-multivariate", "Optuna TPE, multivariate", optuna_peers.OptunaTPE, "optuna"),
        _peer(
            "qlognehvi",
            "BoTorch qLogNEHVI",
            botorch_peer.BoTorchQLogNEHVI,
            *("botorch", "gpytorch"),
            whole_trials=True,
        ),
        Entry(
            name=PRIMO,
            label="NePS PriMO (one worker)",
            role="peer",
            modules=(primo.__name__, f"{primo.__name__}_server"),
            settings=f"PriMO of NePS {primo.VERSION}",
            build=lambda workload, seed, starts: primo.PriMO(workload, seed),
            concurrency=1,
        ),
        _peer("gp", "Optuna GPSampler", optuna_peers.OptunaGP, "optuna", whole_trials=True),
        _ours("one-worker", "one worker", DEFAULT, concurrency=1),  # as PriMO has
        _ours("no-stopping", "no early stopping", replace(DEFAULT, rungs=None)),
        _ours("random-sampler", "random draws", replace(DEFAULT, sampler="random")),
        _ours("tpe-sampler", "TPE draws", replace(DEFAULT, sampler="tpe")),
        _ours(
            "tpe-no-stopping",
            "TPE draws, no early stopping",
            replace(DEFAULT, sampler="tpe", rungs=None),
        ),
        _ours("grace-1-27", "grace 1/27", replace(DEFAULT, rungs=replace(_RUNGS, grace=1 / 27))),
        _ours("grace-1-9", "grace 1/9", replace(DEFAULT, rungs=replace(_RUNGS, grace=1 / 9))),
        _ours(
            "factor-2",
            "reduction factor 2",
            replace(DEFAULT, rungs=replace(_RUNGS, reduction_factor=2.0)),
        ),
        _ours("no-starts", "without starts and extremes", replace(DEFAULT, starts=False)),
        _ours("unconstrained", "deaf to constraints", replace(DEFAULT, constraints=False)),
    )
}


def get_system(name: str) -> Entry:
    """Raises `UserError` for an unknown name; lists the valid ones."""
    if name not in SYSTEMS:
        raise unknown_name("search", name, SYSTEMS)
    return SYSTEMS[name]
