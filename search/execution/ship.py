"""`search ship`: chooses one trained model of a study and ships it, to a folder and to MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from analysis.statistics import reasons
from analysis.statistics.choice import (
    Choice,
    choose,
    fresh_means,
    fresh_reference,
    mean_metrics,
)
from analysis.statistics.conditions import parse_conditions
from search.execution.repeats import FAILED, Repeats, repeats_of, settings_of
from search.plans.description import plan_from_description
from search.record.files.study_file import description_of, find_addresses, find_storage
from search.record.files.study_folder import StudyFiles, again, read_json
from search.record.front import CONFIRMS, is_confirmation
from search.record.storage import StudyRecord
from trainables.config import TrialConfig
from trainables.errors import Failure, UserError
from trainables.report import REACHED_THE_END, add_recorded_tasks, non_finite
from trainables.shipping.options import ShipOptions, check
from trainables.shipping.seeds import metrics_of_seeds
from trainables.shipping.ship import ship
from trainables.sweep.folder import trial_name
from trainables.terminal.answers import require_writable
from trainables.training.export import load_model
from trainables.training.watching.progress import TrialProgress
from trainables.user_code import running

if TYPE_CHECKING:
    from search.tracking.shipped_model import InMlflow

_MAX_NAMED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which model, and what is to be made of it.

    where, max_loss, best: as of `analysis pick`. trial: its number, instead of a choice. seeds: of
    how many the card's intervals are at least, the trial's own and its confirmations included.
    register: a registered model of MLflow.
    """

    out: Path
    where: tuple[str, ...] = ()
    max_loss: float | None = None
    best: str | None = None
    trial: int | None = None
    seeds: int = 1
    register: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """What was shipped. why: the choice in words. standing: what fresh seeds say of it.

    result: the object of `ship.json`.

    in_mlflow: None where it is not there; `problem` then says why, and what to do.
    """

    trial: str
    why: tuple[str, ...]
    standing: reasons.Standing
    result: Mapping[str, Any]
    in_mlflow: "InMlflow | None"
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """A complete trial, as `choose` reads it."""

    trial: str
    number: int
    metrics: Mapping[str, float]
    config: Mapping[str, Any]


def ship_from_study(
    storage: str,
    study: str,
    wanted: Wanted,
    options: ShipOptions,
    *,
    command: Sequence[str],
    tracking_uri: str | None = None,
    study_storage: str | None = None,
    quiet: bool = False,
) -> Shipped:
    """Choose a model, train it at further seeds where asked, ship it, and log it to MLflow.

    The same call after an interruption continues, and repeats nothing that has ended.
    command: the command line that the files name. Raises `UserError` for a mistake, as
    `description_of`, `choose` and `trainables.shipping.ship.ship` do, before anything is trained.
    """
    chosen_by = wanted.where or wanted.best or wanted.max_loss is not None
    if wanted.trial is not None and chosen_by:
        raise UserError(
            f"`--trial` is the choice itself, got {wanted.trial} with --where, --max-loss or "
            "--best; leave out one or the other"
        )
    if wanted.seeds < 1:
        raise UserError(f"`--seeds` must be at least 1, got {wanted.seeds}; 1 trains nothing")
    check(options)
    files, known = description_of(storage, study)
    add_recorded_tasks(known["own_tasks"])
    plan_from_description(known)  # makes the modules beside its recipe importable
    record = StudyRecord.load(find_storage(files, known, study_storage), study, known["study_id"])
    trials = record.trials()
    chosen, why, standing = _chosen(files, trials, known, wanted)
    model = files.model(chosen.number)
    if not model.is_file():
        raise UserError(
            f"the model of {chosen.trial} must be in {str(model)!r}, but no file is there; restore "
            "it, or ship another --trial"
        )
    require_writable(wanted.out, "--out")
    # Loads MLflow, and onnx, which `check` has found.
    from search.tracking.shipped_model import check_registered_name, log_shipped

    address, away = _address(files, known, tracking_uri)
    if wanted.register is not None and not away:
        check_registered_name(address, files, wanted.register)
    options = replace(options, data_root=options.data_root or known["data_root"])
    config = TrialConfig.from_dict(chosen.config)
    confirmed, num_failed = _confirmed(chosen, trials)
    others = metrics_of_seeds(
        config.replace({"data.root": options.data_root or config.data.root}),
        range(config.seed + 1, config.seed + wanted.seeds - len(confirmed)),
        files.trial(chosen.number) / "seeds",
        command=command,
        dense_cache=files.dense_cache,
        quiet=quiet,
    )
    fresh = [*(metrics for _, metrics in confirmed), *others]
    by_seed, seeds_are = _statistics(chosen, fresh, num_failed)
    trained = load_model(model)
    own_code = running({f"model {trained.config.model.name!r}": trained.model})
    with TrialProgress("shipping", quiet=quiet) as progress, own_code:
        result = ship(
            trained,
            wanted.out,
            options,
            command=command,
            trained_by=known.get("command")
            or _command_of(files.trial(chosen.number) / "summary.json"),
            by_seed=by_seed,
            seeds_are=seeds_are,
            progress=progress.step,
        )
    in_mlflow = None
    problem = "; ".join(result["problems"])
    if not problem:
        try:
            if away:
                raise Failure(away)
            named = (chosen.trial, chosen.number, wanted.out)
            in_mlflow = log_shipped(address, files, *named, register=wanted.register)
        except Failure as error:
            remedy = "when it answers, run the same command again"
            problem = f"MLflow lacks the model ({error}); {remedy}"
    if problem:
        problem = f"the files are in {wanted.out}, but {problem}"
    return Shipped(
        trial=chosen.trial,
        why=why,
        standing=standing,
        result=result,
        in_mlflow=in_mlflow,
        problem=problem,
    )


def _command_of(summary: Path) -> list[str] | None:
    try:
        return list(read_json(summary)["command"])
    except (UserError, KeyError):
        return None


def _address(
    files: StudyFiles, known: Mapping[str, Any], tracking_uri: str | None
) -> tuple[str, str]:
    """Return MLflow's address, and why it cannot be used, or ''."""
    try:
        return find_addresses(files, known, tracking_uri=tracking_uri).tracking_uri, ""
    except UserError as error:
        return "", str(error)


def _chosen(
    files: StudyFiles, trials: Sequence[FrozenTrial], known: Mapping[str, Any], wanted: Wanted
) -> tuple[_Candidate, tuple[str, ...], reasons.Standing]:
    """Return the trial, why, in lines, and what fresh seeds say of it.

    As `analysis pick` chooses, on val alone.

    known: the study's description.
    """
    objectives = known["objectives"]

    def candidates(*statuses: str) -> list[_Candidate]:
        return [
            _Candidate(
                trial=trial_name(files.study, trial.number),
                number=trial.number,
                metrics=trial.user_attrs["metrics"],
                config=trial.user_attrs["config"],
            )
            for trial in trials
            if trial.user_attrs.get("status") in statuses
            and not is_confirmation(trial)
            and not non_finite(trial.user_attrs["metrics"], objectives)
        ]

    complete = candidates("complete")
    if not complete:
        raise UserError(
            f"a model is shipped from a complete trial, got none of {len(trials)} in study "
            f"{files.study!r}; `{again('resume', files.study, files.storage)}` goes on with it"
        )
    dense = [t for t in candidates(*REACHED_THE_END) if t.config["method"] == "dense"]
    repeats = repeats_of(trials)
    standing = partial(_standing, files, repeats, objectives, complete, dense)
    if wanted.trial is not None:
        for candidate in complete:
            if candidate.number == wanted.trial:
                said = replace(
                    standing(choose([candidate], objectives)), unconfirmed=(), confirm=""
                )
                return candidate, ("as asked by --trial",), said
        raise _not_complete(wanted.trial, trials, complete)
    by_number = {candidate.number: candidate for candidate in complete}
    means, dense = _as_known(complete, dense, objectives, repeats)
    names = {metric for one in means for metric in one.metrics}
    bounds = parse_conditions(wanted.where, wanted.max_loss, objectives, mean_metrics(dense), names)
    by_fresh = means is not complete
    choice = choose(means, objectives, bounds, wanted.best, by_fresh=by_fresh)
    why = _reasons(choice, known["dataset"])
    return by_number[choice.trial.number], why, standing(choice)


def _standing(
    files: StudyFiles,
    repeats: Repeats,
    objectives: Sequence[str],
    complete: Sequence[_Candidate],
    dense: Sequence[_Candidate],
    choice: Choice[_Candidate],
) -> reasons.Standing:
    fresh = {}
    for one in (*complete, *dense):
        ended = repeats.get(settings_of(one.config), [])
        reached = {seed: metrics for seed, status, metrics in ended if status != FAILED}
        failed = sum(status == FAILED for _, status, _ in ended)
        fresh[one.trial] = reasons.FreshRuns(metrics=reached, num_failed=failed)

    def confirm(num_seeds: int) -> str:
        return again("confirm", files.study, files.storage, "--seeds", str(num_seeds))

    return reasons.standing(choice, objectives, fresh, [one.trial for one in dense], confirm)


def _as_known(
    complete: list[_Candidate],
    dense: list[_Candidate],
    objectives: Sequence[str],
    repeats: Repeats,
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Return the same with their means over fresh seeds, where the whole front has them."""
    fresh = {
        one.trial: [(s, metrics) for _, s, metrics in repeats.get(settings_of(one.config), [])]
        for one in (*complete, *dense)
    }
    means = fresh_means(complete, objectives, fresh, dense)
    if not means:
        return complete, dense
    reference = fresh_reference(dense, fresh)
    return (
        [replace(one, metrics=means[one.trial]) for one in complete if one.trial in means],
        [replace(one, metrics=reference) for one in dense[:1]],
    )


def _confirmed(
    chosen: _Candidate, trials: Sequence[FrozenTrial]
) -> tuple[list[tuple[str, Mapping[str, float]]], int]:
    """Return status and metrics of the chosen trial at the fresh seeds of `search confirm`.

    All that ran to the end are among them, also those that missed a constraint: without them only
    the lucky ones would be left. And how many more have failed, which have no metrics. Those of a
    replicate, with the same settings and another seed, are the trial's as well.
    """
    ended = repeats_of(trials).get(settings_of(chosen.config), [])
    reached = [(status, metrics) for _, status, metrics in ended if status != FAILED]
    return reached, len(ended) - len(reached)


def _statistics(
    chosen: _Candidate, fresh: Sequence[Mapping[str, float]], num_failed: int
) -> tuple[list[Mapping[str, float]], str]:
    """Return the metrics that the card's means are of, and of which seeds these are.

    The chosen trial's own seed, the luckiest of many, is left out where there are two others.
    """
    failed = f" ({num_failed} more failed)" if num_failed else ""
    if len(fresh) > 1:
        return list(fresh), f"{len(fresh)} fresh seeds{failed}"
    if fresh:
        return [chosen.metrics, *fresh], f"2 seeds, one of them the selected{failed}"
    return [chosen.metrics], f"the selected seed{failed.replace('more', 'fresh ones')}"


def _not_complete(
    number: int, trials: Sequence[FrozenTrial], complete: Sequence[_Candidate]
) -> UserError:
    found = [trial for trial in trials if trial.number == number]
    status = found[0].user_attrs.get("status", "not at its end") if found else "not in the study"
    if found and is_confirmation(found[0]):
        status = f"trial {found[0].user_attrs[CONFIRMS]} at a fresh seed"
    names = [str(candidate.number) for candidate in complete]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return UserError(
        f"`--trial` must be a complete trial, got {number}, which is {status}; complete are "
        f"{', '.join(names[:_MAX_NAMED])}{more}"
    )


def _reasons(choice: Choice[_Candidate], dataset: str) -> tuple[str, ...]:
    bounds = [reasons.bound(c, choice.trial.metrics) for c in choice.conditions]
    alone = reasons.only_dense(choice, lambda trial: trial.config["method"] == "dense")
    return (reasons.why(choice, dataset), *bounds, *([alone] if alone else []))
