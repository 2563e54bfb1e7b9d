"""BoTorch's qLogNEHVI (Ament et al. 2023, Daulton et al. 2021), as its multi-objective tutorial
has it: a Gaussian process for every objective, Sobol points first, four workers, pending points.

Every trial trains at full length. Where we had to choose: the reference point is inferred from what
is known (`infer_reference_point`), for no task gives one; 4 restarts of 128 raw samples in place of
10 of 512, which would think for four minutes a search; whole numbers are relaxed and rounded; in
spaces with categories `MixedSingleTaskGP` and `optimize_acqf_mixed_alternating`; a number that a
configuration does not read is in the middle of its range.
"""

import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.search.systems.peers import Starts
from benchmarks.search.workloads.workload import Report, Workload
from spaces.space import GivenValues, Parameter

if TYPE_CHECKING:
    from torch import Tensor

_NUM_RESTARTS, _RAW_SAMPLES, _NUM_SAMPLES = 4, 128, 128
_OPTIONS: dict[str, bool | float | int | str] = {"batch_limit": 5, "maxiter": 200}


class BoTorchQLogNEHVI:
    """`botorch.acquisition.multi_objective.qLogNoisyExpectedHypervolumeImprovement`."""

    def __init__(self, workload: Workload, seed: int, starts: Starts = ()) -> None:
        import torch

        self._space = workload.space
        self._parameters = [p for p in self._space.parameters if p.name not in self._space.fixed]
        self._seed = seed
        self._starts = starts
        self._sobol = torch.quasirandom.SobolEngine(len(self._parameters), scramble=True, seed=seed)
        self._num_first = 2 * (len(self._parameters) + 1)
        self._working: dict[int, Mapping[str, Any]] = {}
        self._known: list[tuple[Mapping[str, Any], tuple[float, ...]]] = []

    def ask(self, number: int) -> Mapping[str, Any]:
        """Return the parameters of trial `number`."""
        import torch

        torch.set_num_threads(1)
        params: Mapping[str, Any]
        if number < len(self._starts):
            params = self._space.suggest(GivenValues(self._starts[number]))
        elif number < self._num_first or len(self._known) < 2:
            place = self._sobol.draw(1, dtype=torch.float64)[0].tolist()
            at = [_stretched(p, x) for p, x in zip(self._parameters, place, strict=True)]
            params = self._decode(at)
        else:
            torch.manual_seed(1000 * self._seed + number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                params = self._decode(self._best().tolist())
        self._working[number] = params
        return params

    def keep(self, number: int, report: Report) -> bool:
        """Whether the trial continues after this report."""
        return True

    def end(self, number: int, report: Report, *, complete: bool) -> None:
        """Learn how a trial ended."""
        self._known.append((self._working.pop(number), report.values))

    def _best(self) -> "Tensor":
        """The point that gains the most, (D,)."""
        import torch
        from botorch.acquisition.multi_objective.logei import (
            qLogNoisyExpectedHypervolumeImprovement,
        )
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import MixedSingleTaskGP, ModelListGP, SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.optim import optimize_acqf, optimize_acqf_mixed_alternating
        from botorch.sampling.normal import SobolQMCNormalSampler
        from botorch.utils.multi_objective.hypervolume import infer_reference_point
        from botorch.utils.multi_objective.pareto import is_non_dominated
        from gpytorch.mlls import SumMarginalLogLikelihood

        known_ND = self._encoded([params for params, _ in self._known])
        gained_NM = -torch.tensor([values for _, values in self._known], dtype=torch.float64)
        categories = {
            index: list(range(len(p.choices)))
            for index, p in enumerate(self._parameters)
            if p.kind == "categorical"
        }
        models = []
        for column_N1 in gained_NM.split(1, dim=1):
            scaled = Standardize(m=1)
            if categories:
                models.append(
                    MixedSingleTaskGP(
                        known_ND, column_N1, cat_dims=list(categories), outcome_transform=scaled
                    )
                )
            else:
                models.append(SingleTaskGP(known_ND, column_N1, outcome_transform=scaled))
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        front_FM = gained_NM[is_non_dominated(gained_NM)]
        acquisition = qLogNoisyExpectedHypervolumeImprovement(
            model=model,
            ref_point=infer_reference_point(front_FM, max_ref_point=None).tolist(),
            X_baseline=known_ND,
            sampler=SobolQMCNormalSampler(torch.Size([_NUM_SAMPLES]), seed=self._seed),
            prune_baseline=True,
            X_pending=self._encoded(list(self._working.values())) if self._working else None,
        )
        tops = [
            float(len(p.choices) - 1) if p.kind == "categorical" else 1.0 for p in self._parameters
        ]
        bounds = torch.tensor([[0.0] * len(tops), tops], dtype=torch.float64)
        common: dict[str, Any] = {
            "bounds": bounds,
            "q": 1,
            "num_restarts": _NUM_RESTARTS,
            "raw_samples": _RAW_SAMPLES,
        }
        if categories:
            found_1D, _ = optimize_acqf_mixed_alternating(
                acquisition, cat_dims=categories, **common
            )
        else:
            found_1D, _ = optimize_acqf(acquisition, options=_OPTIONS, sequential=True, **common)
        return found_1D[0]

    def _encoded(self, configurations: list[Mapping[str, Any]]) -> "Tensor":
        """Numbers on [0, 1], categories by their place (N, D)."""
        import torch

        rows = [[_place(p, params) for p in self._parameters] for params in configurations]
        return torch.tensor(rows, dtype=torch.float64)

    def _decode(self, place_D: list[float]) -> Mapping[str, Any]:
        values = {p.name: _value(p, x) for p, x in zip(self._parameters, place_D, strict=True)}
        return self._space.suggest(GivenValues({**values, **self._space.fixed}))


def _stretched(parameter: Parameter, x: float) -> float:
    """From [0, 1) to what a parameter is encoded as."""
    num_choices = len(parameter.choices)
    return float(min(int(x * num_choices), num_choices - 1)) if num_choices else x


def _place(parameter: Parameter, params: Mapping[str, Any]) -> float:
    if parameter.name not in params:
        return 0.0 if parameter.kind == "categorical" else 0.5
    if parameter.kind == "categorical":
        return float(parameter.choices.index(params[parameter.name]))
    low, high, value = _scaled(parameter, params[parameter.name])
    return (value - low) / ((high - low) or 1.0)


def _value(parameter: Parameter, x: float) -> Any:
    if parameter.kind == "categorical":
        return parameter.choices[round(x)]
    assert parameter.low is not None
    assert parameter.high is not None
    low, high, _ = _scaled(parameter, parameter.low)
    value = low + min(max(x, 0.0), 1.0) * (high - low)
    value = min(max(math.exp(value) if parameter.log else value, parameter.low), parameter.high)
    return round(value) if parameter.kind == "int" else value


def _scaled(parameter: Parameter, value: float) -> tuple[float, float, float]:
    """Both ends of the range and a value, as logarithms where the parameter is log."""
    assert parameter.low is not None
    assert parameter.high is not None
    given = (float(parameter.low), float(parameter.high), float(value))
    low, high, at = map(math.log, given) if parameter.log else given
    return low, high, at
