"""Both definitions of every metric against loops over pixels, and streaming against one shot."""

import gc
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.trainables.tasks.oracle import ORACLES
from trainables.registry.tasks import TASKS
from trainables.report import task_metrics
from trainables.tasks.base import MetricAccumulator
from trainables.tasks.catalogue import build_tasks
from trainables.tasks.normals import BIN_WIDTH_DEG

NUM_CLASSES = 4
CHANNELS = {"segmentation": NUM_CLASSES, "normals": 3, "depth": 1, "keypoints": 1, "edges": 1}
DEFINITIONS = ("corrected", "published")
DATASETS = (None, "nyu-v2", "cityscapes", "taskonomy")


def split_of(
    name: str, num_images: int, cells: tuple[int, int], size: tuple[int, int], seed: int
) -> tuple[Tensor, Tensor]:
    """Predictions that are partly right, and targets of which a third is unknown."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    coarse = noise(num_images, CHANNELS[name], *cells)
    full = F.interpolate(coarse, size, mode="bilinear")
    hidden = torch.rand(num_images, *size, generator=generator) < 1 / 3
    if name == "segmentation":
        labels = (full + 0.5 * noise(*full.shape)).argmax(1)
        return 2 * coarse, labels.masked_fill(hidden, 255)
    if name == "normals":
        target = F.normalize(full + 0.4 * noise(*full.shape))
    else:
        coarse = coarse + 1  # a sixth of the depths is predicted negative
        target = (full + 1 + 0.4 * noise(*full.shape)).abs() + 0.1
    return coarse, target.masked_fill(hidden.unsqueeze(1), math.nan)


def accumulator_of(name: str, definition: str, dataset: str | None = None) -> MetricAccumulator:
    return build_tasks([name], CHANNELS, dataset)[name].accumulator(definition, "cpu")


def streamed(
    accumulator: MetricAccumulator, prediction: Tensor, target: Tensor, cuts: Sequence[int]
) -> Mapping[str, float]:
    """The metrics after one update for each stretch between `cuts`."""
    bounds = sorted({0, *cuts, len(target)})
    for start, end in itertools.pairwise(bounds):
        accumulator.update(prediction[start:end], target[start:end])
    return accumulator.compute()


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("name", list(TASKS))
@settings(deadline=None, max_examples=12)
@given(
    seed=st.integers(0, 10_000),
    num_images=st.integers(1, 4),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=st.tuples(st.integers(4, 11), st.integers(4, 11)),
    cuts=st.lists(st.integers(0, 4), max_size=3),
    dataset=st.sampled_from(DATASETS),
)
def test_against_loops_over_pixels(
    name: str,
    definition: str,
    seed: int,
    num_images: int,
    cells: tuple[int, int],
    size: tuple[int, int],
    cuts: list[int],
    dataset: str | None,
) -> None:
    prediction, target = split_of(name, num_images, cells, size, seed)
    cuts = [cut for cut in cuts if cut < num_images]
    got = streamed(accumulator_of(name, definition, dataset), prediction, target, cuts)
    arguments = (list(prediction.double().numpy()), list(target.double().numpy()), definition)
    # The others have no rule of their own for a data set.
    extra = {"dataset": dataset} if name in ("segmentation", "normals", "depth") else {}
    expected = ORACLES[name](*arguments, **extra)
    assert set(got) == set(task_metrics(name)) == {f"{name}/{key}" for key in expected}
    for key, value in expected.items():
        # In float32 a single pixel may fall on the other side of a limit; the published arccos
        # of a float32 cosine is coarse near 0 degrees.
        tolerance = {"within": 1.5 / (target != 255).sum().item(), "median": 0.01, "mean_e": 0.01}
        absolute = next((t for prefix, t in tolerance.items() if key.startswith(prefix)), 1e-5)
        assert got[f"{name}/{key}"] == pytest.approx(value, abs=absolute, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("name", list(TASKS))
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(1, 6), max_size=6))
def test_the_batches_do_not_show(name: str, definition: str, seed: int, cuts: list[int]) -> None:
    """At full size, where nothing is interpolated: counts agree exactly, and means to what a
    pixel's own float32 value owes to its place in a vector register."""
    prediction, target = split_of(name, 7, (9, 8), (9, 8), seed)
    if name == "segmentation":
        target[3] = 255  # an image without a single label
    whole = streamed(accumulator_of(name, definition), prediction, target, [])
    pieces = streamed(accumulator_of(name, definition), prediction, target, cuts)
    for full_name, value in whole.items():
        exact = any(part in full_name for part in ("miou", "median", "within"))
        assert pieces[full_name] == (value if exact else pytest.approx(value, rel=1e-7))


def held_bytes(root: object) -> int:
    """Bytes of all tensors that can be reached from `root`, modules and classes left aside."""
    seen: set[int] = set()
    stack, total = [root], 0
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, (type, type(torch), type(held_bytes))):
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            total += item.untyped_storage().nbytes()
        elif isinstance(item, np.ndarray):
            total += item.nbytes
        else:
            stack.extend(gc.get_referents(item))
    return total


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("name", list(TASKS))
def test_memory_does_not_grow_with_the_split(name: str, definition: str) -> None:
    """Not by a byte, though 6 batches of 9,600 pixels went through."""
    accumulator = accumulator_of(name, definition)
    before = held_bytes(accumulator)
    assert 0 < before < 400_000  # the histogram of angles is the largest
    prediction, target = split_of(name, 2, (8, 10), (60, 80), 0)
    for _ in range(6):
        accumulator.update(prediction, target)
    assert held_bytes(accumulator) == before


def test_the_measure_of_memory_sees_what_is_stored() -> None:
    accumulator = accumulator_of("depth", "corrected")
    before = held_bytes(accumulator)
    accumulator.hoard = [{"pixels": torch.zeros(1000)}]  # type: ignore[attr-defined]
    assert held_bytes(accumulator) == before + 4000


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        # Anywhere, on the edges of bins, and all in one bin.
        st.one_of(
            st.floats(0, 180, allow_subnormal=False),
            st.integers(0, 36_000).map(lambda k: k * BIN_WIDTH_DEG),
            st.floats(11.2, 11.2001),
            st.sampled_from([0.0, 180.0]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_the_median_is_exact_to_a_hundredth_of_a_degree(degrees: list[float]) -> None:
    """However the angles are spread, even counts included, whose two middles may lie far apart."""
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    vectors = torch.stack([radians.sin(), torch.zeros_like(radians), -radians.cos()])
    prediction = vectors.float()[None, :, None]
    target = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand_as(prediction)
    got = streamed(accumulator_of("normals", "corrected"), prediction, target, [])
    assert abs(got["normals/median_error_deg"] - np.median(degrees)) < 0.005
    assert abs(got["normals/mean_error_deg"] - np.mean(degrees)) < 1e-4
