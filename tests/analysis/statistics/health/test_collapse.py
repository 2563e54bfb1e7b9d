"""Layers without a weight, and how trials ended."""

from collections.abc import Callable

from analysis.statistics.health.collapse import collapsed_layers, ends
from analysis.studies.masks import Layer, TrialMasks
from analysis.studies.trials import Trial, load_study
from tests.analysis.built_studies import BuiltStudy, Row, simple_row


def masks(name: str, *layers: tuple[str, int, int]) -> TrialMasks:
    trial = Trial(trial=name, number=0, method="snip", seed=0, status="complete")
    made = [Layer(name=n, owner="shared", kept=kept, total=total) for n, kept, total in layers]
    return TrialMasks(trial=trial, layers=tuple(made), agreement={})


def test_only_layers_that_have_weights_can_lose_them() -> None:
    whole = masks("a", ("stem", 1, 10), ("head", 9, 9))
    collapsed = masks("b", ("stem", 4, 10), ("head", 0, 9), ("empty", 0, 0), ("last", 0, 3))
    found = collapsed_layers([whole, collapsed])
    assert {trial: [layer.name for layer in layers] for trial, layers in found.items()} == {
        "b": ["head", "last"]
    }


def test_ends_are_counted_with_their_commonest_reason(record: Callable[..., BuiltStudy]) -> None:
    rows = [simple_row(0, "snip", 0.2, 0.5), simple_row(1, "snip", 0.3, 0.6)]
    said = ["the training loss is nan at step 3", "out of memory", "loss not finite", "Inference"]
    rows += [
        Row(number=2 + n, method="snip", status="failed", reason=reason)
        for n, reason in enumerate(said)
    ]
    rows.append(Row(number=6, method="snip", status="stopped"))
    rows.append(Row(number=7, method="snip", status=""))  # still running
    study = load_study("s", record("s", rows, tasks=("segmentation",)).storage)
    reasons = {t.trial: t.reason or "" for t in study.trials}
    found = ends(study, reasons)
    assert (found.total, found.diverged) == (7, 2)  # "Inference" is no infinity
    assert found.counts == {"complete": 2, "failed": 4, "stopped": 1}
    assert found.share("stopped") == 1 / 7
    assert found.commonest in said
    empty = ends(load_study("none", record("none", []).storage), {})
    assert (empty.total, empty.share("failed"), empty.commonest) == (0, 0.0, "")
