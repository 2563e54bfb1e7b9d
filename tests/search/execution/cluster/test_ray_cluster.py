"""A trial's share of a cluster, as large as there is room for; and a token's secrecy."""

from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from search.execution.cluster.gpu_parts import largest_config, measured_part, shares
from search.execution.cluster.ray_cluster import check_token
from search.execution.launch_options import Launch
from search.plans.baselines import make_baselines_plan
from search.plans.recipe import get_recipe
from search.plans.resolve import make_plan
from spaces.presets import trial_config
from trainables.errors import UserError
from trainables.registry.lookup import METHOD
from trainables.sweep.probe import GpuUse, measure_gpu_use, short


def held(nodes: list[dict[str, float]], resources: dict[str, float]) -> int:
    """How many trials of these resources the nodes hold, counted by filling them."""
    count = 0
    for node in nodes:
        left = {name: round(100 * node.get(name.upper(), 0.0)) for name in resources}
        while all(left[name] >= round(100 * share) for name, share in resources.items()):
            left = {name: left[name] - round(100 * resources[name]) for name in left}
            count += 1
    return count


@pytest.mark.parametrize(
    ("nodes", "concurrency", "expected"),
    [
        ([{"CPU": 2.0}], 2, {"cpu": 1.0}),
        ([{"CPU": 2.0}], 3, {"cpu": 0.66}),
        ([{"CPU": 8.0}], 3, {"cpu": 2.0}),
        # A share of the sum would be 4 (of 12 CPUs) and find no node.
        ([{"CPU": 3.0}] * 4, 3, {"cpu": 3.0}),
        ([{"CPU": 4.0}] * 3, 2, {"cpu": 4.0}),
        ([{"CPU": 4.0}, {"CPU": 4.0}], 3, {"cpu": 2.0}),
        # The head lends nothing, as is usual on Kubernetes.
        ([{}, {"CPU": 1.0}, {"CPU": 1.0}], 2, {"cpu": 1.0}),
        # CPUs of nodes without GPUs do not count.
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 4.0}], 4, {"cpu": 2.0, "gpu": 1.0}),
        ([{"CPU": 8.0, "GPU": 1.0}], 3, {"cpu": 2.0, "gpu": 0.33}),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 2.0}], 3, {"cpu": 1.0, "gpu": 1.0}),
    ],
)
def test_shares_by_hand(
    nodes: list[dict[str, float]], concurrency: int, expected: dict[str, float]
) -> None:
    assert shares(nodes, concurrency) == (concurrency, expected)


@pytest.mark.parametrize(
    ("nodes", "concurrency", "part", "expected"),
    [
        ([{"CPU": 16.0, "GPU": 1.0}], None, 0.25, (4, {"cpu": 4.0, "gpu": 0.25})),
        ([{"CPU": 16.0, "GPU": 1.0}], 3, 0.25, (3, {"cpu": 5.0, "gpu": 0.25})),
        ([{"CPU": 2.0, "GPU": 1.0}], None, 0.25, (4, {"cpu": 0.5, "gpu": 0.25})),
        ([{"CPU": 16.0, "GPU": 1.0}], None, 1 / 3, (3, {"cpu": 5.0, "gpu": 0.33})),
        ([{"CPU": 16.0, "GPU": 1.0}], None, 1.0, (1, {"cpu": 16.0, "gpu": 1.0})),
        # No trial is spread over two GPUs: each has room for two of 0.4, which leaves 0.2 unused.
        ([{"CPU": 16.0, "GPU": 2.0}], None, 0.4, (4, {"cpu": 4.0, "gpu": 0.4})),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}], None, 0.5,
         (4, {"cpu": 2.0, "gpu": 0.5})),
        # Without a part named, five trials on two GPUs get what three on one leave each.
        ([{"CPU": 10.0, "GPU": 2.0}], 5, None, (5, {"cpu": 2.0, "gpu": 0.33})),
        ([], None, 0.25, (1, {"cpu": 1.0, "gpu": 0.25})),  # an autoscaler has not begun
    ],
)  # fmt: skip
def test_parts_of_a_gpu_by_hand(
    nodes: list[dict[str, float]],
    concurrency: int | None,
    part: float | None,
    expected: tuple[int, dict[str, float]],
) -> None:
    assert shares(nodes, concurrency, part) == expected


@pytest.mark.parametrize(
    ("nodes", "concurrency", "message"),
    [
        ([{"CPU": 8.0}], None, "`--gpus-per-trial 0.3` needs a GPU, got a machine where"),
        ([{"CPU": 8.0, "GPU": 1.0}], 4, "room for 3 trials on 1 GPUs, got --concurrency 4; lower"),
        ([{"CPU": 8.0, "GPU": 0.2}], None, "room for 0 trials on 0.2 GPUs, got --concurrency 1"),
    ],
)  # fmt: skip
def test_parts_that_find_no_room_are_refused(
    nodes: list[dict[str, float]], concurrency: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        shares(nodes, concurrency, 0.3)


@pytest.mark.parametrize(
    ("used", "total", "cpus", "expected"),
    [
        (8, 139, 16, 8),  # 13 would fit, and no more than eight are of use
        (30, 139, 16, 3),  # 139 / (30 * 1.25 + 0.5) = 3.66
        (30, 139, 2, 2),  # each needs a CPU
        (100, 139, 16, 1),
        (200, 139, 16, 1),  # the study says so itself, by a trial that fails
    ],
)
def test_how_many_fit_by_what_one_took(used: int, total: int, cpus: int, expected: int) -> None:
    found = GpuUse(used_bytes=used << 30, total_bytes=total << 30)
    assert found.num_together(cpus) == expected


def test_without_a_gpu_nothing_is_measured() -> None:
    plan = make_plan(get_recipe("demo"))
    assert measured_part(plan, Launch(ray_address="auto", quiet=True)) is None
    if not torch.cuda.is_available():
        assert measured_part(plan, Launch(quiet=True)) is None
        assert measure_gpu_use(largest_config(plan)) is None


def test_what_is_measured_is_the_method_that_holds_the_most_and_a_few_steps_of_it() -> None:
    plan = make_plan(get_recipe("nyu-v2-paper"), data_root="/data/nyuv2")
    config = largest_config(plan)
    assert METHOD.find(config.method).votes
    few = short(config)
    assert (few.training.steps, few.training.num_reports, few.data.num_test) == (3, 1, 2)
    assert few.training.batch_size == config.training.batch_size
    assert few.model == config.model
    grid = make_baselines_plan(get_recipe("demo"), methods=("dense", "snip"), sparsities=(0.5,))
    assert largest_config(grid).method == "snip"
    assert short(largest_config(grid)).data == largest_config(grid).data  # it is generated


@pytest.mark.gpu
@pytest.mark.timeout(240)
def test_a_trials_memory_is_measured_on_a_gpu() -> None:
    found = measure_gpu_use(trial_config("snip", "scenes", "tiny"))
    assert found is not None
    assert 0 < found.used_bytes < found.total_bytes
    assert found.total_bytes == torch.cuda.get_device_properties(0).total_memory


def test_without_a_number_there_is_a_trial_per_gpu_or_cpu() -> None:
    assert shares([{"CPU": 2.0}, {"CPU": 1.0}], None) == (3, {"cpu": 1.0})
    assert shares([{"CPU": 8.0, "GPU": 2.0}], None) == (2, {"cpu": 4.0, "gpu": 1.0})
    assert shares([], None) == (1, {"cpu": 1.0})  # an autoscaler has not begun
    assert shares([], 3) == (3, {"cpu": 1.0})
    assert shares([{"GPU": 1.0}], 2) == (2, {"gpu": 0.5})  # no CPU to be had


@given(
    cpus=st.lists(st.integers(0, 16), min_size=1, max_size=4).filter(any),
    concurrency=st.integers(1, 24),
)
def test_there_is_room_for_all_and_for_no_larger_share(cpus: list[int], concurrency: int) -> None:
    nodes = [{"CPU": float(count)} for count in cpus]
    _, resources = shares(nodes, concurrency)
    share = resources["cpu"]
    assert held(nodes, resources) >= concurrency
    assert share < 1 or share == int(share)
    larger = (*(h / 100 for h in range(1, 100)), *map(float, range(1, 17)))
    assert not [s for s in larger if s > share and held(nodes, {"cpu": s}) >= concurrency]


def test_gpus_are_shared_first_and_cpus_follow() -> None:
    for cpus, gpus, concurrency in product((1, 2, 7, 8), (1, 2, 4), (1, 2, 3, 5)):
        nodes = [{"CPU": float(cpus), "GPU": float(gpus)}, {"CPU": 8.0, "GPU": 1.0}]
        _, resources = shares(nodes, concurrency)
        assert held(nodes, resources) >= concurrency
        alone = held(nodes, {"gpu": resources["gpu"] + 0.01})
        assert alone < concurrency or resources["gpu"] >= 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize(
    ("address", "auth_mode"), [("auto", None), ("auto", "token"), ("head:6379", "token")]
)
@pytest.mark.parametrize("by_path", [True, False])
def test_a_token_that_others_can_read_is_refused(
    mode: int,
    address: str,
    auth_mode: str | None,
    by_path: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = tmp_path / ("a token" if by_path else ".ray/auth_token")
    token.parent.mkdir(exist_ok=True)
    token.write_text("0123456789abcdef" * 4)
    token.chmod(mode)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if by_path:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    if auth_mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", auth_mode)
    with pytest.raises(UserError, match="a Ray cluster must be its user's alone") as raised:
        check_token(address)
    quoted = f"'{token}'" if by_path else str(token)
    assert str(raised.value).endswith(f"run: chmod 600 {quoted}")
    token.chmod(0o600)
    check_token(address)
    token.chmod(mode)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it is not shown to the cluster
    check_token(address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "in the environment")
    check_token(address)
