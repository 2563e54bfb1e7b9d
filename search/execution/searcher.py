"""The Ray Tune searcher over Optuna's ask and tell, with vector objectives.

Why not `ray.tune.search.optuna.OptunaSearch` (ray 2.60): it tells early-stopped trials COMPLETE,
leaves a trial with a NaN objective RUNNING for ever and aborts the experiment when a metric is
missing. Here a `Ledger` judges every end of a trial; what raises into Tune's loop is a record that
cannot be written, which ends the launch.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ray.tune.search import Searcher

from search.record.ledger import Assignment, Ledger
from search.record.outcomes import Outcome, judge, metrics_of
from trainables.errors import UserError


class LedgerSearcher(Searcher):
    """Hands a ledger's trials to Tune and reports their ends back.

    to_config: the trainable's configuration of an assignment; must be JSON-plain and hold
      `name` and `number`. Where it raises, the trial has failed and the next one is handed out.
    on_assigned: called with Ray's trial id and the assignment, before the trial starts.
    error_of: what Ray knows of a crashed trial, by Ray's trial id; None where the trial is not to
      blame: it has not ended then, and is among `lost`.
    """

    def __init__(
        self,
        ledger: Ledger,
        to_config: Callable[[Assignment], dict[str, Any]],
        *,
        on_assigned: Callable[[str, Assignment], None] | None = None,
        error_of: Callable[[str], str | None] | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._ledger = ledger
        self._to_config = to_config
        self._on_assigned = on_assigned
        self._error_of = error_of
        self._numbers: dict[str, int] = {}
        self._last_results: dict[str, Mapping[str, Any]] = {}
        self.failure: Exception | None = None  # of the record, to end the launch with
        self.lost: list[int] = []  # numbers of trials to run again

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Objectives and space are the ledger's; Tune's single metric does not apply."""
        return True

    def suggest(self, trial_id: str) -> Any:
        with self._ending_the_launch():
            while (assignment := self._ledger.next(trial_id)) is not None:
                try:
                    config = self._to_config(assignment)
                except UserError as error:
                    # Of this trial alone. A disk or a server that is away ends the launch
                    # instead, and the next one hands the trial out again.
                    reason = f"the trial could not be set up: {error}"
                    outcome = Outcome(status="failed", reason=reason, metrics={}, fraction=0.0)
                    self._ledger.finish(assignment.number, outcome)
                    continue
                self._numbers[trial_id] = assignment.number
                if self._on_assigned is not None:
                    self._on_assigned(trial_id, assignment)
                return config
            return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Kept for a crash, of which Tune reports no result."""
        self._last_results[trial_id] = result
        if trial_id in self._numbers:
            self._ledger.reported(self._numbers[trial_id], metrics_of(result))

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        with self._ending_the_launch():  # Tune tries again, with an error for what is none
            self._end(trial_id, result, error)

    def _end(self, trial_id: str, result: Mapping[str, Any] | None, error: bool) -> None:
        number = self._numbers.get(trial_id)
        if number is None:
            return
        crash = None
        if error:
            crash = self._error_of(trial_id) if self._error_of is not None else ""
            if crash is None:
                self.lost.append(number)
                return
            crash = crash or "the trial's process died without a message (killed, or out of memory)"
            result = result or self._last_results.get(trial_id)
        plan = self._ledger.plan
        outcome = judge(result, plan.objectives, constraints=plan.constraints, error=crash)
        self._last_results.pop(trial_id, None)
        if outcome is not None:
            self._ledger.finish(number, outcome)

    @contextlib.contextmanager
    def _ending_the_launch(self) -> Iterator[None]:
        """Tune would go on without a word, and an end be lost until the next launch."""
        if self.failure is not None:
            raise self.failure
        try:
            yield
        except Exception as failure:
            self.failure = failure
            raise

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the state is Optuna's storage, and `Tuner.restore` is not used."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""

    def __reduce__(self) -> Any:
        # Tune pickles its configuration to disk for `Tuner.restore`; a stand-in suffices.
        return (Searcher, ())
