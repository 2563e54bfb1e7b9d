"""A run's metrics are numbers, or its end says which are not."""

import pytest

from trainables.errors import Failure
from trainables.training.summary import require_numbers


def test_metrics_that_are_no_numbers_are_a_failure():
    require_numbers({"test/depth/absolute_error": 0.5, "cost/latency_ms": float("nan")})
    for value in (float("nan"), float("inf")):
        with pytest.raises(Failure, match=rf"got {value} for val/a/b, test/a/c; everything else"):
            require_numbers({"val/a/b": value, "test/a/c": value, "test/a/d": 1.0})
