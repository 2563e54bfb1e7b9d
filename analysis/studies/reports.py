"""Read what trials reported on their way, from `runs/NAME/trials/<NNNNN>/reports.jsonl`."""

import json
from collections.abc import Iterable

from analysis.studies.trials import Study, Trial

_FRACTION = "training/fraction"
_ROUNDING = 1e-9  # fractions of training are sums of floats


def read_reports(study: Study, trial: Trial) -> list[dict[str, float]]:
    """Return the metrics of every report, in the order they came.

    There are none where the study's folder is elsewhere; a line cut short by a crash is left out.
    """
    path = study.directory / "trials" / f"{trial.number:05d}" / "reports.jsonl"
    rows = []
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            rows.append({name: float(value) for name, value in json.loads(line)["metrics"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return rows


def at_fraction(reports: Iterable[dict[str, float]], fraction: float) -> dict[str, float] | None:
    """Return the first report at a fraction of training or beyond it; None where there is none."""
    reached = (r for r in reports if r.get(_FRACTION, 0.0) >= fraction - _ROUNDING)
    return next(reached, None)
