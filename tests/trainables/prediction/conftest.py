"""The same small trials as in the tests of training."""

from tests.trainables.training.conftest import scenes_root, small_trial

__all__ = ["scenes_root", "small_trial"]
