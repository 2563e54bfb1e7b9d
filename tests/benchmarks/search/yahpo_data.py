"""What tests of YAHPO's tasks need, and why they skip where it is not there."""

import pytest

from benchmarks.search.workloads.yahpo_models import data_problem

needs_yahpo = pytest.mark.skipif(data_problem() is not None, reason=data_problem() or "")
