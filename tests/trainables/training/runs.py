"""What tests of whole trials share."""

import torch

from trainables.training.trial import TrialRun
from trainables.training.watching.reports import Report


def finish(run: TrialRun) -> list[Report]:
    """Return the reports from here to the final one."""
    reports = []
    while (report := run.next_report()) is not None:
        reports.append(report)
    return reports


def same_weights(left: TrialRun, right: TrialRun) -> bool:
    """Return whether two runs have equal parameters and buffers, to the bit."""
    pairs = zip(left.model.state_dict().items(), right.model.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
