"""Reports what a model in training costs where it will run."""

from collections.abc import Callable, Mapping

from torch import nn

from trainables.config import TrialConfig
from trainables.sparsity.masking.masks import MaskRegistry

# Given a model, its masks, the configuration and the channels of each task's prediction.
DeploymentCosts = Callable[
    [nn.Module, MaskRegistry, TrialConfig, Mapping[str, int]], dict[str, float]
]


class Deployment:
    """Measures a model again only when the number of kept weights of a layer has changed.

    measure: None for a trial that does not ask for these costs.
    """

    def __init__(self, measure: DeploymentCosts | None) -> None:
        self._measure = measure
        self._kept: tuple[int, ...] = ()
        self._costs: dict[str, float] = {}

    def of(
        self,
        model: nn.Module,
        registry: MaskRegistry,
        config: TrialConfig,
        num_channels: Mapping[str, int],
    ) -> Callable[[], dict[str, float]]:
        """Return a function that gives the costs by the names of `trainables.report`.

        They are empty without `measure`.
        """

        def costs() -> dict[str, float]:
            kept = tuple(registry.kept_by_layer.values())
            if self._measure is not None and kept != self._kept:
                self._costs = self._measure(model, registry, config, num_channels)
                self._kept = kept
            return dict(self._costs)

        return costs
