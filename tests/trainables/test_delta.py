"""Δ_T by hand."""

import math

import pytest

from trainables.report import delta_percent


def test_delta_is_a_mean_over_tasks_of_means_over_metrics() -> None:
    """Segmentation +10 % and -20 %: -5 %; depth error 10 % lower: +10 %; the mean 2.5 %."""
    baseline = {
        "segmentation/miou": 0.5,
        "segmentation/pixel_accuracy": 0.5,
        "depth/absolute_error": 2.0,
    }
    metrics = {
        "segmentation/miou": 0.55,
        "segmentation/pixel_accuracy": 0.4,
        "depth/absolute_error": 1.8,
    }
    assert delta_percent(metrics, baseline) == pytest.approx(2.5)
    assert delta_percent(baseline, baseline) == 0.0


def test_a_metric_without_a_baseline_is_left_out() -> None:
    baseline = {"edges/error": 0.0, "depth/absolute_error": 1.0}
    metrics = {"edges/error": 0.1, "depth/absolute_error": 2.0, "keypoints/error": 0.3}
    assert delta_percent(metrics, baseline) == pytest.approx(-100.0)
    assert math.isnan(delta_percent({"edges/error": 0.1}, {}))
