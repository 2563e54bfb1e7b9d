"""A small version of `make bench-search`: our search must beat what it replaces."""

import pytest

from analysis.statistics.comparing.comparison import compare
from benchmarks.search.results.scores import trajectory
from benchmarks.search.runs import Job, run
from benchmarks.search.systems.catalogue import OURS, PLAIN_TPE, RANDOM
from benchmarks.search.workloads.surrogates import get_surrogate

SEEDS = 8
FULL_LENGTHS = 20
SURROGATES = ("parallel", "crossing")


@pytest.fixture(scope="module")
def final_hypervolume() -> dict[tuple[str, str], list[float]]:
    """By surrogate and system, a value per seed."""
    found = {}
    for surrogate in SURROGATES:
        normalisation = get_surrogate(surrogate).normalisation
        for system in (OURS, RANDOM, "ray-asha", PLAIN_TPE):
            jobs = [
                Job(workload=surrogate, system=system, seed=seed, full_lengths=FULL_LENGTHS)
                for seed in range(SEEDS)
            ]
            found[surrogate, system] = [trajectory(run(j), normalisation).final for j in jobs]
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("search_small")  # they share runs
@pytest.mark.timeout(600)  # a minute on a quiet machine
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("peer", [RANDOM, "ray-asha", PLAIN_TPE])
def test_ours_ends_above_the_peer(
    final_hypervolume: dict[tuple[str, str], list[float]], surrogate: str, peer: str
) -> None:
    """Paired by seed, at equal epochs: mean difference above 0, one-sided signed-rank p < 0.05."""
    found = compare(final_hypervolume[surrogate, OURS], final_hypervolume[surrogate, peer])
    one_sided_p = found.p_value / 2 if found.mean > 0 else 1 - found.p_value / 2
    assert found.mean > 0
    assert one_sided_p < 0.05, f"{found.mean:+.4f}, p = {one_sided_p:.3f}"
