"""Choose whose predictions a report shows, and draw them: one picture for each task."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from analysis.labels import task_label
from analysis.plots import canvas
from analysis.plots import predictions as plot
from analysis.statistics.fronts import dense_trials
from analysis.studies.predictions import TrialPredictions, read_predictions
from analysis.studies.trials import Study, Trial

MAX_MEMBERS = 4  # of the front, beside the dense model


def choose(study: Study, members: Sequence[Trial]) -> tuple[TrialPredictions, ...]:
    """Return the first dense trial's predictions, then those of front members, sparsest last.

    members: the joint front. Of those that left predictions four are taken, the densest and the
    sparsest among them, at even distances in the order of their densities.
    """
    dense = [trial for trial in dense_trials(study)]
    sparse = sorted(
        (trial for trial in members if trial.method != "dense"),
        key=lambda trial: (-trial.metrics.get("cost/density", 1.0), trial.number),
    )
    found = read_predictions(study, [*dense, *sparse])
    reference = [item for item in found if item.trial.method == "dense"][:1]
    others = [item for item in found if item.trial.method != "dense"]
    if len(others) > MAX_MEMBERS:
        last = MAX_MEMBERS - 1
        others = [others[round(i * (len(others) - 1) / last)] for i in range(MAX_MEMBERS)]
    return (*reference, *others)


def pictures(study: Study, members: Sequence[Trial]) -> dict[str, bytes]:
    """Return by task what the dense model and the front predict, as the contents of PNGs."""
    drawn = figures(study, choose(study, members))
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
