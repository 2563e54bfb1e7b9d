"""Costs of deployment: asked for by a trial, measured again only when its masks have changed."""

from collections.abc import Mapping

import pytest
from torch import nn

from spaces.presets import trial_config
from tests.contracts.conftest import MICRO
from trainables.config import TrialConfig
from trainables.errors import UserError
from trainables.shipping.trial_costs import deployment_costs
from trainables.sparsity.masking.masks import MaskRegistry
from trainables.training.trial import TrialRun
from trainables.training.watching.reports import Report


class Counter:
    """Stands for the measurement: says how often it was asked."""

    def __init__(self) -> None:
        self.kept: list[int] = []

    def __call__(
        self,
        model: nn.Module,
        registry: MaskRegistry,
        config: TrialConfig,
        num_channels: Mapping[str, int],
    ) -> dict[str, float]:
        self.kept.append(registry.kept)
        return {"cost/model_bytes": float(registry.kept)}


def trial(tmp_path, method: str, **overrides: object) -> TrialConfig:  # type: ignore[no-untyped-def]
    return trial_config(
        method,
        "scenes",
        "tiny",
        tasks=["segmentation", "depth"],
        root=str(tmp_path),
        steps=4,
        sparsity=0.5,
        overrides={**MICRO, "training.num_reports": 4, **overrides},
    )


def reports(run: TrialRun) -> list[Report]:
    found = []
    while (report := run.next_report()) is not None:
        found.append(report)
    return found


@pytest.mark.parametrize(("method", "measured"), [("random", 1), ("gmp", 2)])
def test_they_are_in_every_report_and_measured_when_masks_change(
    tmp_path,
    method: str,
    measured: int,  # type: ignore[no-untyped-def]
) -> None:
    counter = Counter()
    run = TrialRun(trial(tmp_path, method), device="cpu", deployment=counter)
    found = [report.metrics["cost/model_bytes"] for report in reports(run)]
    assert len(found) == 4
    assert found[-1] == run.registry.kept
    assert len(counter.kept) == len(set(counter.kept)) >= measured


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_trial_that_asks_reports_what_shipping_measures(
    tmp_path,
    runtime: str,  # type: ignore[no-untyped-def]
) -> None:
    asked = {"deployment.measure": True, "deployment.runtime": runtime}
    config = trial(tmp_path, "random", **asked, **{"sparsity.structure": "channel"})
    run = TrialRun(config, device="cpu", deployment=deployment_costs(config))
    metrics = reports(run)[-1].metrics
    assert metrics["cost/latency_ms"] > 0
    assert 0 < metrics["cost/latency_fraction"] < 5
    assert metrics["cost/latency_spread"] >= 0
    assert metrics["cost/model_bytes"] > 0


def test_a_trial_that_does_not_ask_reports_none_of_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    config = trial(tmp_path, "random")
    assert deployment_costs(config) is None
    metrics = reports(TrialRun(config, device="cpu", deployment=None))[-1].metrics
    assert not {"cost/latency_fraction", "cost/model_bytes"} & metrics.keys()


def test_an_unknown_runtime_is_refused_with_the_valid_ones(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"runtime.*'tensorrt'.*onnxruntime, torch"):
        trial(tmp_path, "random", **{"deployment.runtime": "tensorrt"})
