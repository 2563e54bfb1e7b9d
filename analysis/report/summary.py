"""What `front` and `report` answer with `--json`."""

import math
from pathlib import Path
from typing import Any

from analysis.report.figures import Findings
from analysis.report.versions import versions
from analysis.studies.trials import Trial


def summary(
    command: str, found: Findings, notes: list[str], paths: list[Path], seconds: float
) -> dict[str, Any]:
    """Return one JSON object: counts, the front with its metrics, the files that were written."""
    study = found.study
    scale = found.normalisation
    return {
        "command": command,
        "study": study.name,
        "seed": study.facts.get("seed"),
        "source": study.source,
        "notes": notes,
        "objectives": list(study.objectives),
        "trials": len(study.trials),
        "complete": len(study.with_status("complete")),
        "stopped": len(study.with_status("stopped")),
        "infeasible": len(study.with_status("infeasible")),
        "front": [
            {"trial": t.trial, "method": t.method, "seed": t.seed, "metrics": dict(t.metrics)}
            | _seeds(found, t)
            | _fresh(found, t)
            for t in found.members
        ],
        "hypervolume": float(found.share_N[-1]) if len(found.share_N) else None,
        "hypervolume_scale": dict(scale.to_dict(study.objectives)) if scale else None,
        "files": [str(path) for path in paths],
        "timing": {"seconds": round(seconds, 3)},
        "versions": versions(),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _seeds(found: Findings, trial: Trial) -> dict[str, Any]:
    """Return the seeds that a system's metrics are means over; nothing of a search."""
    seeds = found.means.seeds.get(trial.trial)
    return {} if seeds is None else {"seeds": list(seeds)}


def _fresh(found: Findings, trial: Trial) -> dict[str, Any]:
    """Return what fresh seeds tell of a member; nothing where it was not confirmed."""
    one = found.confirmed.get(trial.trial)
    if one is None:
        return {}
    intervals = {name: one.interval(name) for name in found.study.objectives}
    return {
        "fresh": {
            name: {"mean": _finite(one.mean(name)), "low": _finite(i.low), "high": _finite(i.high)}
            for name, i in intervals.items()
        },
        "fresh_seeds": list(one.runs),
        "fresh_seeds_failed": list(one.failed),
        "tied_with": list(found.ties.get(trial.trial, ())),
    }
