"""Recipes: what a study searches, on which data, with which budget. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spaces.catalogue import SPARSE_METHODS
from trainables.errors import unknown_name

SCHEDULERS = ("pareto-asha", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A study's defaults; everything here can be overridden on the command line.

    methods: what the sampler chooses from. `references` are trained once each and never
      sampled: the dense model shows what sparsity costs.
    settings: dotted names of `TrialConfig` that differ from the presets.
    num_startup_trials: of Optuna's samplers: trials, starting points included, before they use
      what they know.
    flagship: the method whose sparsest and densest models a study begins with.
    """

    name: str
    summary: str
    dataset: str
    preset: str
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    space: str
    trials: int
    concurrency: int | None  # None: one trial per CPU, or per GPU
    references: tuple[str, ...] = ("dense",)
    cost: str = "cost/density"
    sampler: str = "curves"
    scheduler: str = "pareto-asha"
    flagship: str = "disparse-static"
    num_startup_trials: int = 10
    settings: Mapping[str, Any] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="demo",
            summary="procedural scenes, three tasks, a tiny network: minutes on two cores",
            dataset="scenes",
            preset="tiny",
            tasks=("segmentation", "normals", "depth"),
            methods=("random", "snip", "rigl", "disparse-static", "disparse-dynamic"),
            space="compact",
            trials=18,
            concurrency=2,
            num_startup_trials=8,
            settings={"training.steps": 300, "training.num_reports": 4},
        ),
        Recipe(
            name="nyu-v2-small",
            summary="real NYU-v2 frames, a small network: convert the data first",
            dataset="nyu-v2",
            preset="small",
            tasks=("segmentation", "normals"),
            methods=(
                "random",
                "snip",
                "rigl",
                "disparse-static",
                "disparse-dynamic",
                "disparse-pretrained",
            ),
            space="full",
            trials=24,
            concurrency=None,
            num_startup_trials=12,
            # Three passes over the training split: minutes per trial on one core.
            settings={"training.steps": 300, "training.num_reports": 5},
        ),
        Recipe(
            name="scenes-tiny",
            summary="procedural scenes, all five tasks, a tiny network, every sparse method",
            dataset="scenes",
            preset="tiny",
            tasks=("segmentation", "normals", "depth", "keypoints", "edges"),
            methods=SPARSE_METHODS,
            space="compact",
            trials=40,
            concurrency=2,
            num_startup_trials=16,
            settings={"training.steps": 400, "training.num_reports": 5},
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """Raises `UserError` for an unknown name; lists the valid ones."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]
