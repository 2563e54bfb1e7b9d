"""Check that Δ_T is over the same set of metrics at every seed."""

import pytest

from analysis.statistics.comparing.deltas import paired_deltas

ANGLE, NARROW, MIOU = "normals/mean_error_deg", "normals/within_11_25", "segmentation/miou"


def test_a_zero_at_one_seed_takes_the_metric_from_all() -> None:
    """The angle falls by 10 % at both seeds and mIoU rises by 20 and 40 %: 15 and 25 %. With the
    share within 11.25° at seed 0 alone (0.1 → 0.4, +300 %) that would have been 82.5 and 25 %."""
    method = {
        0: {ANGLE: 27.0, NARROW: 0.4, MIOU: 0.24},
        1: {ANGLE: 18.0, NARROW: 0.4, MIOU: 0.14},
    }
    reference = {
        0: {ANGLE: 30.0, NARROW: 0.1, MIOU: 0.2},
        1: {ANGLE: 20.0, NARROW: 0.0, MIOU: 0.1},
    }
    found = paired_deltas(method, reference)
    assert found.by_seed == pytest.approx({0: 15.0, 1: 25.0})
    assert found.left_out == (NARROW,)


def test_seeds_that_are_not_shared_have_no_say() -> None:
    method = {0: {ANGLE: 27.0}, 2: {MIOU: 0.1}}
    reference = {0: {ANGLE: 30.0}, 1: {ANGLE: 0.0}}
    found = paired_deltas(method, reference)
    assert found.by_seed == pytest.approx({0: 10.0})
    assert found.left_out == ()


def test_nothing_in_common_is_no_delta() -> None:
    found = paired_deltas({0: {ANGLE: 27.0}}, {0: {MIOU: 0.2}})
    assert (found.by_seed, found.left_out) == ({}, (MIOU, ANGLE))
