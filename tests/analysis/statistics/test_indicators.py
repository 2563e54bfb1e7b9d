"""Check hypervolume: closed forms, inclusion and exclusion, laws of a trajectory."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analysis.statistics.indicators import (
    REFERENCE,
    Normalisation,
    hypervolume,
    hypervolume_trajectory,
)

SETS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.floats(0, 1.25, width=16, allow_subnormal=False),
)


def unit(num_objectives: int) -> Normalisation:
    return Normalisation(ideal=(0.0,) * num_objectives, nadir=(1.0,) * num_objectives)


def inclusion_exclusion(values: np.ndarray) -> float:
    """Volume of a union of boxes [row, REFERENCE] by its definition, as a share."""
    rows = [row for row in values if (row < REFERENCE).all()]
    volume = 0.0
    for size in range(1, len(rows) + 1):
        for chosen in itertools.combinations(rows, size):
            volume += (-1) ** (size + 1) * np.prod(REFERENCE - np.max(chosen, axis=0))
    return volume / REFERENCE ** values.shape[1]


@given(SETS)
def test_hypervolume_is_the_volume_of_the_union(values: np.ndarray) -> None:
    found = hypervolume(values, unit(values.shape[1]))
    assert found == pytest.approx(inclusion_exclusion(values), abs=1e-9)


@given(SETS)
def test_trajectory_is_the_hypervolume_of_every_beginning(values: np.ndarray) -> None:
    scale = unit(values.shape[1])
    trajectory = hypervolume_trajectory(values, scale)
    expected = [hypervolume(values[: n + 1], scale) for n in range(len(values))]
    assert trajectory == pytest.approx(expected, abs=1e-12)
    assert (np.diff(trajectory) >= 0).all()


def test_one_point_by_hand() -> None:
    assert hypervolume([[0.5, 0.1]], unit(2)) == pytest.approx(0.6 * 1.0 / 1.21)
    assert hypervolume([[0.0, 0.0]], unit(2)) == pytest.approx(1.0)
    assert hypervolume([[1.1, 0.0]], unit(2)) == 0.0


def test_values_beyond_the_scale_count_as_its_ends() -> None:
    scale = unit(2)
    assert hypervolume([[-5.0, -5.0]], scale) == pytest.approx(1.0)
    bad = [[float("nan"), 0.0], [float("inf"), 0.0], [-float("inf"), 0.0], [2.0, 0.0]]
    assert hypervolume(bad, scale) == 0.0
    assert hypervolume_trajectory(bad, scale).tolist() == [0.0] * 4


def test_the_scale_does_not_matter_once_normalised() -> None:
    values = np.random.default_rng(0).random((20, 3))
    stretched = values * [3.0, 100.0, 0.01] - [7.0, 0.0, 2.0]
    one = hypervolume(values, Normalisation.of(values))
    assert hypervolume(stretched, Normalisation.of(stretched)) == pytest.approx(one)


def test_normalisation_spans_the_front_and_ignores_a_diverged_trial() -> None:
    scale = Normalisation.of([[1, 4], [2, 3], [9, 9], [1e9, 1e9], [float("nan"), 0]])
    assert scale.ideal == (1.0, 3.0)
    assert scale.nadir == (2.0, 4.0)


def test_constant_objectives_get_a_range() -> None:
    assert Normalisation.of([[1, 5], [1, 5]]).nadir == (2.0, 10.0)  # ideal + max(1, |ideal|)
    assert Normalisation.of([[1, 5], [3, 7]]).nadir == (3.0, 7.0)  # the range of all


@pytest.mark.parametrize("ideal", [(1.0, 0.0), (float("nan"), 0.0), (0.0,)])
def test_improper_scales_are_refused(ideal: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"`ideal` < `nadir`"):
        Normalisation(ideal=ideal, nadir=(1.0, 1.0))


def test_no_finite_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="finite vector"):
        Normalisation.of([[float("nan"), 1.0]])
