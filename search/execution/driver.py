"""Drives one launch of a study whose lock is held: from its record to how it stands at the end."""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial

from analysis.statistics.choice import ENOUGH_FRESH
from search.execution import launch as with_ray
from search.execution.callbacks.checkpoints import clear_tune_states
from search.execution.callbacks.monitor import Monitor
from search.execution.preparation import Prepared
from search.execution.storage_failures import failures_of_storage
from search.execution.study_end import StudyEnd
from search.plans.description import describe_study
from search.plans.limits.plateau import plateau_text
from search.record.draws import sampler_of
from search.record.files.study_folder import past_reports, write_json
from search.record.front import is_confirmation
from search.record.ledger import Ledger
from search.record.repeats import repeats_of
from search.record.storage import StudyRecord
from search.record.study_status import check_record
from search.tracking.projector import Projector
from trainables.addresses import scrubbed
from trainables.report import describe
from trainables.sweep.display import Progress
from trainables.terminal.answers import STDOUT
from trainables.terminal.command_line import masked, typed_command
from trainables.terminal.plurals import counted


class Driver:
    """One launch of a study. Raises `Failure` where its storage goes away or Ray does not start."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._plan, self._launch = prepared.plan, prepared.launch
        self._files, self._known = prepared.files, prepared.known
        self._described = describe_study(self._plan, self._known)
        self._described |= prepared.addresses.recorded(self._files)
        self._described |= {"parent_run_id": None, "finished": False, "data": prepared.data}
        plateau = None if self._launch.extends else self._known.get("plateau")
        self._described["plateau"] = plateau
        # The one that began it, where a command did: later ones resume, extend or confirm.
        began = typed_command("search") if Path(sys.argv[0]).parent.name == "search" else None
        self._described["command"] = self._known.get("command") if self._known else began
        self._record = self._open_record()
        if not self._known:
            # With its id, by which the next driver finds its runs should this one be killed.
            write_json(self._files.description, self._described)
        addresses = prepared.addresses
        self._projector = Projector(addresses.tracking_uri, addresses.study_storage, self._files)

    def run(self) -> StudyEnd:
        """Train what is left of the study, report on it if it is finished, and say how it ended."""
        finished = False
        problem = ""
        try:
            resume = self._launch.resume(self._plan.study)
            with failures_of_storage(self._files, self._prepared.addresses, resume):
                if self._known:
                    self._open_runs()  # otherwise MLflow is loaded while Ray starts
                ledger = self._ledger()
                self._train(ledger)
                finished = not ledger.num_remaining
                if finished:
                    self._note_finished(ledger)
            own = [t for t in ledger.finished() if not is_confirmation(t)]
            if self._launch.report and finished and _statuses(own)["complete"]:
                # The projector, which ends below, sends it.
                _, problem = self._analyse("report", "--no-log")
        finally:
            unwritten = self._projector.close(finished=finished)
        return self._end(ledger, own, problem, unwritten)

    def _open_record(self) -> StudyRecord:
        storage = self._prepared.addresses.study_storage
        directions = {name: describe(name).direction for name in self._plan.objectives}
        study_id = str(self._described["study_id"])
        if self._known.get("parent_run_id"):  # its trials may have begun: it is not made anew
            record = StudyRecord.load(storage, self._plan.study, study_id)
        else:
            record = StudyRecord.create(storage, self._plan.study, directions, study_id)
        check_record(self._files, self._known, record.num_trials(), storage)
        return record

    def _note(self, **values: Any) -> None:
        """Write facts into the study's `study.json`."""
        self._described.update(values)
        write_json(self._files.description, self._described)

    def _open_runs(self) -> None:
        self._projector.wait_open()
        self._note(parent_run_id=self._projector.parent_run_id)

    def _ledger(self) -> Ledger:
        return Ledger(
            self._plan,
            self._record,
            sampler_of(self._plan, self._prepared.prior),
            warm=self._prepared.warm,
            plateau=self._described["plateau"],
            # At once: a driver that is killed afterwards leaves a study at its plateau.
            on_plateau=lambda found: self._note(plateau=dict(found)),
        )

    def _train(self, ledger: Ledger) -> None:
        """Run the trials that are left, and where the front is confirmed, those that follow."""
        num_seeds = self._prepared.num_seeds
        said = ""
        if num_seeds is not None:
            said = ledger.confirm(num_seeds, self._files.storage)
            self._note(confirm=num_seeds)
        reports = past_reports(self._files, ledger.trials())
        for trial, metrics in reports:
            ledger.reported(trial.number, metrics)
        confirming = num_seeds is not None
        ended = sum(is_confirmation(trial) == confirming for trial in ledger.finished())
        # What is left to confirm is known, whatever the study's budget is counted in.
        in_trials = confirming or self._plan.budget.trials is not None
        progress = Progress(
            trials=ended + ledger.num_remaining if in_trials else None,
            finished=ended,
            objectives=self._plan.objectives,
            quiet=self._launch.quiet,
        )
        monitor = Monitor(self._files, ledger, progress)

        def more() -> bool:
            said = "" if num_seeds is None else ledger.confirm(num_seeds, self._files.storage)
            if said:  # of what the noise of the front now tells
                progress.more(ledger.num_remaining)
                progress.say(said)
            return bool(said)

        try:
            clear_tune_states(self._files)
            if ledger.num_remaining:
                progress.say(said or self._beginning(ledger))
                run_trials = self._launch.runner or with_ray.run_trials
                given = self._plan, self._launch, self._files, ledger, monitor, reports
                with progress:
                    run_trials(*given, self._open_runs, more)
            else:
                what = "trial" if num_seeds is None else "confirmation"
                progress.say(f"study {self._plan.study}: nothing to do: every {what} has ended")
        finally:
            monitor.close()

    def _beginning(self, ledger: Ledger) -> str:
        begun = f"resumes with {counted(ledger.num_finished, 'trial')} finished of"
        does = begun if ledger.num_asked else "starts:"
        objectives = ", ".join(self._plan.objectives)
        return f"study {self._plan.study} {does} {self._plan.budget.text}; objectives {objectives}"

    def _note_finished(self, ledger: Ledger) -> None:
        if self._plan.grid is None:
            self._described["further"] = ledger.further(math.ceil(ledger.num_finished / 4))
        if self._described["plateau"]:
            self._described["plateau"]["used"] = ledger.used
        self._note(finished=True, confirm=None)

    def _end(
        self, ledger: Ledger, own: list[FrozenTrial], problem: str, unwritten: str
    ) -> StudyEnd:
        """own: the finished trials of the study that are no confirmations."""
        statuses = _statuses(own)
        table = ""
        if statuses["complete"] and self._plan.grid is not None and not self._launch.quiet:
            table, failure = self._analyse("table", "--primary")
            problem = problem or failure
        confirming = self._prepared.num_seeds is not None
        ended = confirming and not ledger.num_remaining and not self._launch.quiet
        choices = self._choices() if ended and self._plan.grid is None else []
        reasons = Counter(str(t.user_attrs.get("reason", "")) for t in own)
        repeats = repeats_of(ledger.finished())
        members = set(ledger.front())
        again_at = _statuses([t for t in ledger.finished() if is_confirmation(t)])
        plateau = self._described["plateau"]
        tracking_uri = self._prepared.addresses.tracking_uri
        return StudyEnd(
            directory=self._files.directory,
            tracking_uri=masked(tracking_uri),
            finished=ledger.num_finished,
            complete=statuses["complete"],
            failed=statuses["failed"],
            remaining=ledger.num_remaining,
            front=len(members),
            idle=ledger.idle,
            plateau=plateau_text(plateau) if plateau else "",
            reason=next((reason for reason, _ in reasons.most_common() if reason), ""),
            unwritten=scrubbed(unwritten, tracking_uri),
            report_problem=problem,
            table=table,
            confirming=confirming,
            confirmed=", ".join(f"{count} {status}" for status, count in again_at.items()),
            unconfirmed=any(len(repeats.get(n, ())) < ENOUGH_FRESH for n in members),
            choices=tuple(choices),
        )

    def _choices(self) -> list[str]:
        """Say what plain conditions take, and took before fresh seeds."""
        answer, failure = self._analyse("pick", "--json", STDOUT)
        return [f"unknown: {failure}"] if failure else list(json.loads(answer)["in_words"])

    def _analyse(self, command: str, *options: str) -> tuple[str, str]:
        """Run a command of `analysis`: return what it printed, and what went wrong, or ''."""
        storage, tracking_uri = str(self._files.storage), self._prepared.addresses.tracking_uri
        arguments = ["-m", "analysis", command, self._files.study, "--storage", storage, *options]
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
            # By environment: a command line, with its passwords, is everybody's to read.
            env={**os.environ, "MLFLOW_TRACKING_URI": tracking_uri},
        )
        if done.returncode == 0:
            return done.stdout.rstrip(), ""
        lines = (done.stderr or done.stdout).strip().splitlines() or [""]
        said = scrubbed(lines[-1], tracking_uri)
        return "", f"{' '.join(arguments)} exited {done.returncode}: {said}"


def _statuses(trials: list[FrozenTrial]) -> Counter[str]:
    return Counter(str(t.user_attrs.get("status", "failed")) for t in trials)
