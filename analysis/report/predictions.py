"""Choose whose predictions a report shows, and draw them: one picture for each task."""

from collections.abc import Collection, Sequence

from matplotlib.figure import Figure

from analysis.labels import task_label
from analysis.plots import canvas
from analysis.plots import predictions as plot
from analysis.statistics.eligible import dense_trials
from analysis.studies.predictions import TrialPredictions, read_predictions
from analysis.studies.trials import Study, Trial

NUM_SPARSE = 4  # beside the dense model; more only where more are recommended


def choose(
    study: Study, members: Sequence[Trial], taken: Collection[str] = ()
) -> tuple[TrialPredictions, ...]:
    """Return the first dense trial's predictions, then those of front members, sparsest last.

    members: the joint front. taken: names of the trials that a reader is told to take. Of those
    that left predictions at least four are shown: all that is taken, and of the others as many as
    there is room for, the sparsest and the densest among them, at even distances in the order of
    their densities.
    """
    dense = [trial for trial in dense_trials(study)]
    names = {trial.trial for trial in members} | set(taken)
    sparse = sorted(
        (t for t in study.trials if t.trial in names and t.method != "dense"),
        key=lambda trial: (-trial.metrics.get("cost/density", 1.0), trial.number),
    )
    found = read_predictions(study, [*dense, *sparse])
    reference = [item for item in found if item.trial.method == "dense"][:1]
    others = [item for item in found if item.trial.method != "dense"]
    first = [item for item in others if item.trial.trial in taken]
    rest = [item for item in others if item not in first]
    room = max(0, min(NUM_SPARSE - len(first), len(rest)))
    # The last is the sparsest; of several, the first is the densest.
    rest = [rest[-1 - round(i * (len(rest) - 1) / max(1, room - 1))] for i in range(room)]
    return (*reference, *(item for item in others if item in first or item in rest))


def pictures(
    study: Study, members: Sequence[Trial], taken: Collection[str] = ()
) -> dict[str, bytes]:
    """Return by task what the trials of `choose` predict, as the contents of PNGs."""
    drawn = figures(study, choose(study, members, taken))
    return {task: canvas.png(picture) for task, picture in drawn.items()}


def figures(study: Study, shown: Sequence[TrialPredictions]) -> dict[str, Figure]:
    """Return a picture by task, of the tasks that all trials predicted."""
    facts = [str(study.facts[key]) for key in ("dataset", "preset") if study.facts.get(key)]
    about = " · ".join([*facts, "test frames, evenly spaced"])
    tasks = [
        task for task in (shown[0].tasks if shown else ()) if all(task in s.tasks for s in shown)
    ]
    return {
        task: plot.draw(
            task, shown, f"{study.name}: {task_label(task).lower()}, as predicted", about
        )
        for task in tasks
    }
