"""The space of the surrogates, and configurations in it; see `surrogates` for the equations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spaces.space import Parameter, Space, When

METHODS = ("random", "magnitude", "saliency", "dynamic")
_SCORES = {"taylor": 0.0, "published": 0.03, "magnitude": 0.06}
_ALLOCATIONS = {"erk": 0.0, "er": 0.02, "uniform": 0.06}

SPACE = Space(
    name="surrogate",
    doc="shaped as the space `compact`",
    parameters=(
        Parameter(
            name="method",
            kind="categorical",
            choices=METHODS,
            default="magnitude",
            doc="the sparsity method",
        ),
        Parameter(
            name="sparsity.target",
            kind="float",
            low=0.5,
            high=0.99,
            default=0.9,
            doc="fraction of weights at zero",
        ),
        Parameter(
            name="optimiser.learning_rate",
            kind="float",
            low=1e-4,
            high=1e-1,
            log=True,
            default=10**-2.5,
            doc="step size",
        ),
        Parameter(
            name="regrowth.fraction",
            kind="float",
            low=0.1,
            high=0.6,
            default=0.3,
            when=(When(name="method", values=("dynamic",)),),
            doc="share replaced at an update",
        ),
        Parameter(
            name="sparsity.score",
            kind="categorical",
            choices=tuple(_SCORES),
            default="published",
            when=(When(name="method", values=("saliency",)),),
            doc="what weights are ranked by",
        ),
        Parameter(
            name="sparsity.allocation",
            kind="categorical",
            choices=tuple(_ALLOCATIONS),
            default="uniform",
            when=(When(name="method", values=("random", "dynamic")),),
            doc="how kept weights are shared out",
        ),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One error. Letters as in the module's equations; (a, b) per method in METHODS' order."""

    best_rate: float  # x*
    best_regrowth: float = 0.4  # r*
    wave: float = 0.0  # w
    methods: tuple[tuple[float, float], ...] = (
        (0.15, 0.0),
        (0.0, 0.16),
        (0.05, 0.03),
        (0.08, -0.04),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Points:
    """N configurations as columns."""

    method_N: NDArray[np.intp]
    sparsity_N: NDArray[np.float64]
    rate_N: NDArray[np.float64]  # x
    regrowth_N: NDArray[np.float64]  # r; read for dynamic alone
    details_N: NDArray[np.float64]  # what score and allocation add

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Points":
        """A single configuration."""
        method = str(params["method"])
        details = _SCORES[params["sparsity.score"]] if method == "saliency" else 0.0
        if method in ("random", "dynamic"):
            details += _ALLOCATIONS[params["sparsity.allocation"]]
        rate = (math.log10(params["optimiser.learning_rate"]) + 2.5) / 1.5
        return cls(
            method_N=np.array([METHODS.index(method)]),
            sparsity_N=np.array([float(params["sparsity.target"])]),
            rate_N=np.array([rate]),
            regrowth_N=np.array([float(params.get("regrowth.fraction", math.nan))]),
            details_N=np.array([details]),
        )

    @property
    def u_N(self) -> NDArray[np.float64]:
        """The coordinates of the configurations, (N,)."""
        return (self.sparsity_N - 0.5) / 0.49
