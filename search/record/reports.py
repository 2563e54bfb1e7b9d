"""Reports of earlier launches, `trials/NNNNN/reports.jsonl`, told again to a new driver."""

from optuna.trial import FrozenTrial

from search.record.ledger import Ledger
from search.record.study_folder import StudyFiles, read_json_lines


def past_reports(files: StudyFiles, ledger: Ledger) -> list[tuple[FrozenTrial, dict[str, float]]]:
    """Return trials and metrics of all reports that are on disk, in the order they came."""
    trials = ledger.trials()
    reports = [
        (row["at"], trial.number, row["metrics"])
        for trial in trials
        for row in read_json_lines(files.reports(trial.number))
    ]
    ordered = sorted(reports, key=lambda report: report[:2])
    return [(trials[number], metrics) for _, number, metrics in ordered]
