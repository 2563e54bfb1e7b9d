"""Each trial's share of the machines: CPUs, whole GPUs, and parts of a GPU for several at once."""

import os
from collections.abc import Callable, Mapping, Sequence

from search.execution.launch_options import Launch
from search.plans.plan import Plan
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.registry.lookup import METHOD


def measured_part(plan: Plan, launch: Launch) -> float | None:
    """Return the part of a GPU that a trial of the study needs; None where it is not measured.

    A few steps of the method that needs the most memory are trained, on this machine: its GPU is
    the one that trials get where Ray is local.
    """
    if launch.ray_address != "local":
        return None
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not num_gpus:
        return None
    from trainables.sweep.probe import measure_gpu_use

    if not launch.quiet:
        print(f"study {plan.study}: measuring what a trial takes of the GPU", flush=True)
    found = measure_gpu_use(largest_config(plan))
    if found is None:
        return None
    together = found.num_together(len(os.sched_getaffinity(0)) // num_gpus)
    if not launch.quiet:
        print(
            f"study {plan.study}: a trial takes {found.used_bytes / 2**30:.1f} of "
            f"{found.total_bytes / 2**30:.0f} GiB; {together} at once on a GPU",
            flush=True,
        )
    return 100 // together / 100


def largest_config(plan: Plan) -> TrialConfig:
    """Return a trial of the study's that holds the most beside the weights.

    Tasks that vote have a gradient each; other sparse methods have masks and scores.
    """

    def needs(method: str) -> tuple[bool, bool]:
        described = METHOD.find(method)
        return described.votes, described.sparse

    first = plan.sample_config()
    for method in sorted(plan.methods, key=needs, reverse=True):
        params = {"method": method}
        if plan.grid is not None:
            params = next(p for p in plan.grid.params() if p["method"] == method)
        try:
            return plan.config(params, plan.seed)
        except UserError:
            continue
    return first


def shares(
    nodes: Sequence[Mapping[str, float]],
    concurrency: int | None,
    gpus_per_trial: float | None = None,
) -> tuple[int, dict[str, float]]:
    """Return how many trials run at once, and the largest equal shares with which they find room.

    nodes: the resources of each, as Ray names them; where some have GPUs, only they are used. A
      trial has to fit into one: two nodes of four CPUs have room for three trials of two.
    concurrency: None for as many as GPUs have room for or, without any, one per CPU.
    gpus_per_trial: in (0, 1], rounded down to hundredths; None for the largest share.

    Raises `UserError` for a part of a GPU where there is none, and where `concurrency` trials of
    that part find no room.
    """
    with_gpus = [node for node in nodes if node.get("GPU")]
    gpus = [node.get("GPU", 0.0) for node in with_gpus]
    cpus = [node.get("CPU", 0.0) for node in with_gpus or nodes]
    if gpus_per_trial is not None and nodes:
        room = _room(gpus, gpus_per_trial, concurrency)
        concurrency = room if concurrency is None else concurrency
    if concurrency is None:
        concurrency = max(1, int(sum(gpus) or sum(cpus)))
    if not nodes:  # an autoscaler will bring them
        part = {} if gpus_per_trial is None else {"gpu": gpus_per_trial}
        return concurrency, {"cpu": 1.0, **part}
    resources = {}
    places = [concurrency] * len(cpus)  # at most so many trials on each node
    if gpus:
        if gpus_per_trial is None:
            gpu = _share(gpus, concurrency, places, _held)
        else:
            gpu = _hundredths(gpus_per_trial)
        resources["gpu"] = gpu / 100
        places = [_held(total, gpu) for total in gpus]
    if any(cpus):
        resources["cpu"] = _share(cpus, concurrency, places, _held_of_any) / 100
    return concurrency, resources


def _room(gpus: Sequence[float], gpus_per_trial: float, concurrency: int | None) -> int:
    """Return how many trials of a part of a GPU find room. Raises `UserError` as `shares` does."""
    option = f"--gpus-per-trial {gpus_per_trial:g}"
    if not gpus:
        raise UserError(f"`{option}` needs a GPU, got a machine where Ray has none; leave it out")
    room = sum(_held(total, _hundredths(gpus_per_trial)) for total in gpus)
    if not room or (concurrency is not None and concurrency > room):
        wanted = 1 if concurrency is None else concurrency
        raise UserError(
            f"`{option}` leaves room for {room} trials on {sum(gpus):g} GPUs, got --concurrency "
            f"{wanted}; lower one of them"
        )
    return room


def _hundredths(part: float) -> int:
    return max(1, int(100 * part + 1e-6))


def _held(total: float, share: int) -> int:
    """Return how many shares, in hundredths, a node of `total` GPUs holds.

    No trial is spread over two GPUs: each one holds a whole number of shares below 1.
    """
    if share >= 100:
        return round(100 * total) // share
    whole, rest = divmod(round(100 * total), 100)
    return whole * (100 // share) + rest // share


def _held_of_any(total: float, share: int) -> int:
    """Return how many shares, in hundredths, `total` CPUs hold: a trial may use any of them."""
    return round(100 * total) // share


def _share(
    totals: Sequence[float],
    parts: int,
    places: Sequence[int],
    held: Callable[[float, int], int],
) -> int:
    """Return the largest share of which `totals` hold `parts`, each at most its `places`.

    In hundredths, since 3 * 0.33 must fit into 1. Whole shares above one: Ray books no 1.5 CPUs
    for an actor that pins threads.
    """
    for share in (*range(100 * int(max(totals)), 0, -100), *range(99, 0, -1)):
        found = (min(n, held(t, share)) for n, t in zip(places, totals, strict=True))
        if sum(found) >= parts:
            return share
    return 1
