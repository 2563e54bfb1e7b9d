"""Our sampler for studies of plain Optuna: no Ray, no recipe, any objective.

    sampler = LearningCurveSampler(seed=0)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    study.optimize(objective, n_trials=50)

With `search.schedulers.optuna_pruner.ParetoPruner` it learns from trials at work and from stopped
ones as well. docs/search_alone.md has a whole example.
"""

import secrets
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.samplers.learning_curves import CurveModel
from search.samplers.optuna_reports import reports_of, was_stopped
from search.samplers.optuna_space import InferredSpace
from trainables.errors import UserError
from trainables.seeds import derive_seed


class LearningCurveSampler(optuna.samplers.BaseSampler):
    """Draws by what Gaussian processes believe of the hypervolume that a trial would gain.

    One objective or several, any directions, conditional spaces, constraints by
    `trial.set_constraint`. It keeps nothing between draws: they depend on the seed, the trial's
    number and what the study's trials say, so that a study can be resumed, or shared by threads
    and processes. See `search.samplers.learning_curves`.

    seed: None for one by chance. num_startup_trials: complete ones before it draws by the model;
    random until then.

    Raises `UserError` for fewer than 2 startup trials.
    """

    def __init__(self, *, seed: int | None = None, num_startup_trials: int = 8) -> None:
        if num_startup_trials < 2:
            raise UserError(
                f"`num_startup_trials` must be at least 2, got {num_startup_trials}; the model "
                "learns from differences, and 8 give it a fair start"
            )
        self._seed = secrets.randbits(32) if seed is None else seed
        self._num_startup_trials = num_startup_trials

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is drawn by the model; nothing at first."""
        trials = study.get_trials(deepcopy=False)
        if sum(one.state == TrialState.COMPLETE for one in trials) < self._num_startup_trials:
            return {}
        return InferredSpace(trials).distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of a trial that the model is for; other parameters are drawn alone."""
        if not search_space:
            return {}
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        inferred = InferredSpace(trials)
        signs = [-1.0 if d == StudyDirection.MAXIMIZE else 1.0 for d in study.directions]
        model = CurveModel(seed=self._seed)
        for one in trials:
            if one.state != TrialState.WAITING:
                _tell(model, one, inferred.places(one), signs)
        proposal = model.propose(trial.number, inferred.space)
        values = {} if proposal is None else inferred.values(proposal)
        # Another thread may have ended a trial with further parameters since they were asked for.
        return {name: value for name, value in values.items() if name in search_space}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value, which depends on the seed, the trial and the name alone."""
        name = int.from_bytes(param_name.encode(), "big")
        seed = derive_seed(derive_seed(self._seed, "sampler", trial.number), "sampler", name)
        chance = optuna.samplers.RandomSampler(seed=seed % 2**32)
        return chance.sample_independent(study, trial, param_name, param_distribution)


def _tell(
    model: CurveModel, trial: FrozenTrial, places: Mapping[str, Any], signs: list[float]
) -> None:
    def minimised(values: Any) -> list[float]:
        return [sign * float(value) for sign, value in zip(signs, values, strict=True)]

    model.started(trial.number, places)
    for report in reports_of(trial.user_attrs):
        violations = {"reported": report.violation} if report.violation > 0 else {}
        model.reported(trial.number, report.fraction, minimised(report.values), violations)
    if trial.state == TrialState.COMPLETE and not was_stopped(trial):
        model.ended(trial.number, minimised(trial.values), dict(trial.constraints))
    elif trial.state.is_finished():
        model.ended(trial.number)
