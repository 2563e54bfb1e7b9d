"""A run's metrics are numbers, or its end says which are not."""

import pytest

from tests.trainables.training.conftest import TrialFactory
from trainables.errors import Failure, UserError
from trainables.training.device import require_memory
from trainables.training.summary import few_frames, require_numbers


def test_metrics_that_are_no_numbers_are_a_failure():
    require_numbers({"test/depth/absolute_error": 0.5, "cost/latency_ms": float("nan")})
    for value in (float("nan"), float("inf")):
        with pytest.raises(Failure, match=rf"got {value} for val/a/b, test/a/c; everything else"):
            require_numbers({"val/a/b": value, "test/a/c": value, "test/a/d": 1.0})


def test_a_batch_of_more_frames_than_there_are_is_said(small_trial: TrialFactory):
    config = small_trial("dense", {"training.batch_size": 18})
    assert few_frames(config, 18) == ""
    said = few_frames(config, 17)
    assert said.startswith("training.batch_size is 18, but there are 17 frames to train on, so a")
    assert few_frames(small_trial("dense"), 4) == ""


def test_a_batch_that_no_memory_holds_is_refused_before_it_is_loaded(small_trial: TrialFactory):
    require_memory(small_trial("dense"), "cpu", 8)
    huge = {"training.evaluation_batch_size": 10**12}
    require_memory(small_trial("dense", huge), "cpu", 8)  # no more than there are
    with pytest.raises(UserError, match=r"`training.evaluation_batch_size` must fit in the memory"):
        require_memory(small_trial("dense", huge), "cpu", 10**12)
    huge = {"training.batch_size": 10**12}
    with pytest.raises(UserError, match=r"got 10{12} images of 32x32, which are 12,288,000\.0 of"):
        require_memory(small_trial("dense", huge), "cpu", 8)
