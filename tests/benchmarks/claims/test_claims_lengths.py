"""Steps and eligible reports, by hand from the schedules."""

from benchmarks.claims.lengths import trial_lengths
from benchmarks.claims.protocol import SETTINGS

SCENES = SETTINGS["scenes"]


def test_imp_chooses_among_fewer_reports_the_more_levels_it_has() -> None:
    """Of 400 steps 200 are dense. A fifth a level: two levels to 30 %, the second from step 100,
    so of reports at 40, 80, 120, 160 and 200 three; eleven to 90 %, the last from 10 · 200 // 11 =
    181, so one."""
    moderate = trial_lengths("imp", SCENES, 0.3, 400, {})
    assert (moderate.pretrain_steps, moderate.steps, moderate.levels) == (200, 200, (100, 100))
    assert (moderate.eligible, moderate.reports) == (3, 5)
    high = trial_lengths("imp", SCENES, 0.9, 400, {})
    assert (len(high.levels), sum(high.levels), high.eligible) == (11, 200, 1)


def test_lth_repeats_levels_no_longer_than_its_dense_run() -> None:
    """Halving: 0.5, 0.25, 0.125, 0.1 in four levels."""
    found = trial_lengths("lth", SCENES, 0.9, 400, {"sparsity.level_fraction": 0.5})
    assert found.pretrain_steps + sum(found.levels) == 400
    assert len(found.levels) == 4
    assert max(found.levels) <= found.pretrain_steps
    # Reports every 63.2 steps of 316, the last level from 237: at 253 and 316.
    assert (found.steps, found.eligible) == (316, 2)


def test_one_shot_and_dense_systems_choose_among_all() -> None:
    for system in ("snip", "rigl", "disparse-static", "dense", "cross-stitch"):
        found = trial_lengths(system, SCENES, 0.9, 400, {"training.num_reports": "4"})
        assert (found.eligible, found.reports, found.levels) == (4, 4, ())
