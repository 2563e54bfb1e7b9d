"""Check PED-ANOVA against Optuna's, and by hand."""

import math
from typing import Any

import numpy as np
import pytest

from analysis.statistics.ped_anova import Grid, divergences


@pytest.mark.filterwarnings("ignore::UserWarning")  # Optuna's, that low values count as good
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [12, 37, 120])
def test_divergences_are_those_of_optuna(seed: int, count: int) -> None:
    """A range, and one of a parameter that some trials lack."""
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution

    generator = np.random.default_rng(seed)
    ranks = generator.permutation(count).astype(float)
    partial = [float(r) if r % 3 else None for r in generator.permutation(count)]
    values: dict[str, list[Any]] = {"range": list(ranks), "partial": partial}
    kinds: dict[str, BaseDistribution] = {"range": FloatDistribution(0, count - 1)}
    # Ours places a number by its rank among those that are there: hand Optuna the same.
    known = sorted(v for v in partial if v is not None)
    partial[:] = [None if v is None else float(known.index(v)) for v in partial]
    kinds["partial"] = FloatDistribution(0, len(known) - 1)
    outcome = ranks + generator.normal(0, count / 5, count)
    best_N = outcome <= np.sort(outcome)[math.ceil(0.25 * count) - 1]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    peer = optuna.create_study()
    for row in range(count):
        given = {name: column[row] for name, column in values.items() if column[row] is not None}
        held = {name: kinds[name] for name in given}
        peer.add_trial(optuna.trial.create_trial(value=0.0, params=given, distributions=held))
    expected = optuna.importance.get_param_importances(
        peer,
        evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25),
        target=lambda frozen: outcome[frozen.number],
        normalize=False,
    )
    for name, column in values.items():
        ours = divergences(Grid.of(column), best_N[None, :], np.ones((1, count), dtype=bool))
        assert ours[0] == pytest.approx(expected[name], rel=1e-9, abs=1e-15), name


def test_divergence_of_levels_by_hand() -> None:
    """Four trials of a, three of b, one of none; the best are two of a and the one of none."""
    grid = Grid.of(["a", "a", "a", "a", "b", "b", "b", None])
    best_N = np.array([True, True, False, False, False, False, False, True])
    best, everyone = (2.5 / 3, 0.5 / 3), (4.5 / 8, 3.5 / 8)
    pearson = sum(q * (p / q - 1) ** 2 for p, q in zip(best, everyone, strict=True))
    # (γ'/γ)² α²/β with γ'/γ = 3/8, α = 2/3 and β = 7/8.
    expected = (3 / 8) ** 2 * (2 / 3) ** 2 / (7 / 8) * pearson
    found = divergences(grid, best_N[None, :], np.ones((1, 8), dtype=bool))
    assert found[0] == pytest.approx(expected, rel=1e-9)


def test_rows_of_a_batch_do_not_touch_one_another() -> None:
    generator = np.random.default_rng(0)
    grid = Grid.of(list(generator.random(40)))
    best_LN = generator.random((7, 40)) < 0.3
    among_LN = best_LN | (generator.random((7, 40)) < 0.5)
    together = divergences(grid, best_LN, among_LN)
    alone = [divergences(grid, best_LN[[i]], among_LN[[i]])[0] for i in range(7)]
    assert together.tolist() == pytest.approx(alone, rel=1e-12)
    assert divergences(grid, among_LN, among_LN).tolist() == pytest.approx([0.0] * 7, abs=1e-12)
