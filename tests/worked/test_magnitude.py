"""Magnitude by hand on 16 weights, 2 tasks: IMP's levels, and GMP's cubic schedule.

W  16 -15 | 14 -13 | 12 -11 | 10 -9        a  8 7 6 5        b  4 -3 2 -1
"""

import pytest
import torch

from tests.trainables.sparsity.toys import Toy, toy_config
from tests.worked.networks import names_of, network, worked_toy
from trainables.sparsity.catalogue import METHODS
from trainables.sparsity.schedule import density_at, prune_steps


def toy_of(**overrides: object) -> Toy:
    shared = [[16, -15], [14, -13], [12, -11], [10, -9]]
    return worked_toy(network(shared, {"a": [8, 7, 6, 5], "b": [4, -3, 2, -1]}), **overrides)


def prune(toy: Toy, method: str, density: float) -> set[str]:
    """The weights that this pruning takes away."""
    before = names_of(toy.registry.keep())
    toy.registry.update(METHODS[method].prune(toy.context, density).masks, None)
    after = names_of(toy.registry.keep())
    assert after <= before
    return before - after


@pytest.mark.parametrize("method", ["imp", "lth"])
def test_levels(method: str) -> None:
    # A fifth of the remaining at a time: 16 · .8 = 12.8, 10.24, 8.19, 6.55; .8⁵ = .328 would pass
    # the target of .6, so the fifth level keeps 16 · .4 = 6.4.
    toy = toy_of()
    weight, a, b = toy.registry.parameters.values()
    assert prune(toy, method, 0.8) == {"b1", "b2", "b3"}  # 13 kept: 3, 2 and 1 go
    with torch.no_grad():  # what training did
        weight[3, 1], a[0, 3], b[0, 0] = 0.5, -0.7, 20.0
    assert prune(toy, method, 0.64) == {"W31", "a3", "a2"}  # 10 kept: .5, .7 and 6
    assert prune(toy, method, 0.512) == {"a1", "a0"}  # 8 kept: 7 and 8
    assert prune(toy, method, 0.4096) == {"W30"}  # 7 kept: 10
    assert prune(toy, method, 0.4) == {"W21"}  # 6 kept: 11
    assert names_of(toy.registry.keep()) == {"W00", "W01", "W10", "W11", "W20", "b0"}


def test_when_the_levels_are_and_what_they_keep() -> None:
    config = toy_config(
        sparsity__schedule="levels", sparsity__level_fraction=0.2, sparsity__target=0.6
    ).sparsity
    assert prune_steps(config, 100) == (0, 20, 40, 60, 80)  # they share training evenly
    kept = [round(density_at(config, step, 100) * 16) for step in (0, 19, 20, 40, 60, 80, 99)]
    assert kept == [13, 13, 10, 8, 7, 6, 6]


def test_zhu_and_guptas_cubic_schedule() -> None:
    # s_t = s_f + (s_i - s_f)(1 - (t - t_0) / (n Δt))³ with s_i = 0, s_f = .8, t_0 = 20, n = 4,
    # Δt = 10: at t = 20 … 60 the bracket is 1, .75, .5, .25, 0, its cube 1, .421875, .125,
    # .015625, 0, and s = 0, .4625, .7, .7875, .8.
    config = toy_config(
        sparsity__schedule="cubic",
        sparsity__target=0.8,
        sparsity__start_fraction=0.2,
        sparsity__end_fraction=0.6,
        sparsity__interval_steps=10,
    ).sparsity
    table = {0: 0, 20: 0, 29: 0, 30: 0.4625, 39: 0.4625, 40: 0.7, 50: 0.7875, 60: 0.8, 99: 0.8}
    for step, sparsity in table.items():
        assert 1 - density_at(config, step, 100) == pytest.approx(sparsity, abs=1e-12)
    # The first pruning at t_0 itself would prune nothing.
    assert prune_steps(config, 100) == (30, 40, 50, 60)


def test_gmp_prunes_every_layer_alike() -> None:
    # 16 · (1 - s) = 8.6, 4.8, 3.4, 3.2, so 9, 5, 3 and 3 are kept. By layer, of 8, 4 and 4:
    #   9: 4.5 2.25 2.25 → 5 2 2 · 5: 2.5 1.25 1.25 → 3 1 1 · 3: 1.5 .75 .75 → 1 1 1
    toy = toy_of(sparsity__allocation="uniform")
    weight = toy.registry.parameters["shared.weight"]
    assert prune(toy, "gmp", 0.5375) == {"W21", "W30", "W31", "a2", "a3", "b2", "b3"}
    with torch.no_grad():
        weight[2, 0], weight[0, 1] = 99.0, 0.1  # what training did
        weight[3, 1] = 1000.0  # a pruned weight, whatever it holds, stays pruned
    assert prune(toy, "gmp", 0.3) == {"W01", "W11", "a1", "b1"}  # of W stay 99, 16, 14
    assert prune(toy, "gmp", 0.2125) == {"W00", "W10"}
    assert prune(toy, "gmp", 0.2) == set()
    assert names_of(toy.registry.keep()) == {"W20", "a0", "b0"}
