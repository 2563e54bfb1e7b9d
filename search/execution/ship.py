"""`search ship`: chooses one trained model of a study and ships it, to a folder and to MLflow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from analysis.statistics import reasons
from analysis.statistics.candidates import chosen, no_model, standing_of
from analysis.statistics.choice import Choice, choose
from analysis.statistics.eligible import eligible
from analysis.statistics.uncertainty.confirmed import confirmations
from analysis.studies.trials import Study, Trial, study_of
from search.plans.description import plan_from_description
from search.record.files.study_file import description_of, find_addresses, find_storage
from search.record.files.study_folder import StudyFiles, read_json
from search.record.files.trials_table import trials_table
from search.record.front import CONFIRMS, is_confirmation
from search.record.storage import StudyRecord
from trainables.config import TrialConfig
from trainables.errors import Failure, UserError
from trainables.report import add_recorded_tasks
from trainables.shipping.options import ShipOptions, check
from trainables.shipping.seeds import metrics_of_seeds
from trainables.shipping.ship import ship
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
    trial, why, standing = _chosen(_recorded(files, known, trials), trials, wanted)
    model = files.model(trial.number)
    if not model.is_file():
        raise UserError(
            f"the model of {trial.trial} must be in {str(model)!r}, but no file is there; restore "
            "it, or ship another --trial"
        )
    require_writable(wanted.out, "--out")
    # Loads MLflow, and onnx, which `check` has found.
    from search.tracking.shipped_model import check_registered_name, log_shipped

    address, away = _address(files, known, tracking_uri)
    if wanted.register is not None and not away:
        check_registered_name(address, files, wanted.register)
    options = replace(options, data_root=options.data_root or known["data_root"])
    given = next(t.user_attrs["config"] for t in trials if t.number == trial.number)
    config = TrialConfig.from_dict(given)
    # All that ran to the end, also those that missed a constraint: else only the lucky are left.
    confirmed = [*standing.runs.metrics.values()]
    others = metrics_of_seeds(
        config.replace({"data.root": options.data_root or config.data.root}),
        range(config.seed + 1, config.seed + wanted.seeds - len(confirmed)),
        files.trial(trial.number) / "seeds",
        command=command,
        dense_cache=files.dense_cache,
        quiet=quiet,
    )
    by_seed, seeds_are = _statistics(trial.metrics, [*confirmed, *others], standing.runs.num_failed)
    trained = load_model(model)
    own_code = running({f"model {trained.config.model.name!r}": trained.model})
    with TrialProgress("shipping", quiet=quiet) as progress, own_code:
        result = ship(
            trained,
            wanted.out,
            options,
            command=command,
            trained_by=known.get("command")
            or _command_of(files.trial(trial.number) / "summary.json"),
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
            named = (trial.trial, trial.number, wanted.out)
            in_mlflow = log_shipped(address, files, *named, register=wanted.register)
        except Failure as error:
            remedy = "when it answers, run the same command again"
            problem = f"MLflow lacks the model ({error}); {remedy}"
    if problem:
        problem = f"the files are in {wanted.out}, but {problem}"
    return Shipped(
        trial=trial.trial,
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


def _recorded(files: StudyFiles, known: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> Study:
    """Return the study as `analysis` reads it: from the record, of which its table may be behind.

    known: the study's description.
    """
    ended = [trial for trial in trials if "status" in trial.user_attrs]
    return study_of(files.study, files.directory, known, trials_table(files.study, ended))


def _chosen(
    study: Study, trials: Sequence[FrozenTrial], wanted: Wanted
) -> tuple[Trial, tuple[str, ...], reasons.Standing]:
    """Return the trial with its own values, why, in lines, and what fresh seeds say of it.

    As `analysis pick` chooses, on val alone.
    """
    complete = eligible(study)
    if wanted.trial is None:
        found = chosen(study, wanted.where, wanted.max_loss, wanted.best)
        number = found.choice.trial.number
        why = _reasons(found.choice, str(study.facts["dataset"]))
        return next(trial for trial in complete if trial.number == number), why, found.standing
    if not complete:
        raise no_model(study)
    for trial in complete:
        if trial.number == wanted.trial:
            alone = choose([trial], study.objectives)
            said = standing_of(study, alone, confirmations(study))
            return trial, ("as asked by --trial",), replace(said, unconfirmed=(), confirm="")
    raise _not_complete(wanted.trial, trials, complete)


def _statistics(
    own: Mapping[str, float], fresh: Sequence[Mapping[str, float]], num_failed: int
) -> tuple[list[Mapping[str, float]], str]:
    """Return the metrics that the card's means are of, and of which seeds these are.

    The chosen trial's own seed, the luckiest of many, is left out where there are two others.
    """
    failed = f" ({num_failed} more failed)" if num_failed else ""
    if len(fresh) > 1:
        return list(fresh), f"{len(fresh)} fresh seeds{failed}"
    if fresh:
        return [own, *fresh], f"2 seeds, one of them the selected{failed}"
    return [own], f"the selected seed{failed.replace('more', 'fresh ones')}"


def _not_complete(
    number: int, trials: Sequence[FrozenTrial], complete: Sequence[Trial]
) -> UserError:
    found = [trial for trial in trials if trial.number == number]
    status = found[0].user_attrs.get("status", "not at its end") if found else "not in the study"
    if found and is_confirmation(found[0]):
        status = f"trial {found[0].user_attrs[CONFIRMS]} at a fresh seed"
    names = [str(trial.number) for trial in complete]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return UserError(
        f"`--trial` must be a complete trial, got {number}, which is {status}; complete are "
        f"{', '.join(names[:_MAX_NAMED])}{more}"
    )


def _reasons(choice: Choice[Trial], dataset: str) -> tuple[str, ...]:
    bounds = [reasons.bound(c, choice.trial.metrics) for c in choice.conditions]
    alone = reasons.only_dense(choice, lambda trial: trial.method == "dense")
    return (reasons.why(choice, dataset), *bounds, *([alone] if alone else []))
