"""The Ray Tune searcher over Optuna's ask and tell, with vector objectives.

Ray's own `OptunaSearch` (2.60) tells early-stopped trials COMPLETE, leaves a trial with a NaN
objective RUNNING for ever and aborts the experiment when a metric is missing.
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

    to_config: the trainable's configuration; where it raises `UserError`, the trial has failed.
    on_assigned: called before a trial starts.
    error_of: why a trial crashed, by Ray's trial id; None where its node was lost: it has not
      ended then, and is among `lost`, the numbers of trials to run again.
    stopped: by number, the last reports after which trials are to stop, at once.
    failure: what went wrong with the record, to end the launch with.
    """

    def __init__(
        self,
        ledger: Ledger,
        to_config: Callable[[Assignment], dict[str, Any]],
        *,
        on_assigned: Callable[[Assignment], None] = lambda assignment: None,
        error_of: Callable[[str], str | None] = lambda trial_id: "",
        stopped: Mapping[int, Mapping[str, float]] | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._ledger = ledger
        self._to_config = to_config
        self._on_assigned = on_assigned
        self._error_of = error_of
        self._stopped = dict(stopped or {})
        self._numbers: dict[str, int] = {}
        self._last_results: dict[str, Mapping[str, Any]] = {}  # Tune reports none of a crash
        self.failure: Exception | None = None
        self.lost: list[int] = []

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Accept whatever Tune says: objectives and space are the ledger's."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial, or `Searcher.FINISHED`."""
        with self._ending_the_launch():
            while (assignment := self._ledger.next()) is not None:
                last = self._stopped.pop(assignment.number, None)
                if last is not None:
                    self._end(assignment.number, {**last, "status": "running"})
                    continue
                try:
                    config = self._to_config(assignment)
                except UserError as error:
                    # A disk or a server that is away ends the launch instead.
                    reason = f"the trial could not be set up: {error}"
                    failed = Outcome(status="failed", reason=reason)
                    self._ledger.finish(assignment.number, failed)
                    continue
                self._numbers[trial_id] = assignment.number
                self._on_assigned(assignment)
                return config
            return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Pass a report on to the ledger."""
        self._last_results[trial_id] = result
        if trial_id in self._numbers:
            self._ledger.reported(self._numbers[trial_id], metrics_of(result))

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Judge a trial's end and record it."""
        number, last = self._numbers.get(trial_id), self._last_results.pop(trial_id, None)
        if number is None:
            return
        with self._ending_the_launch():
            crash = None
            if error:
                crash = self._error_of(trial_id)
                if crash is None:
                    self.lost.append(number)
                    return
                crash = crash or "the trial's process died without a message"
                result = result or last
            self._end(number, result, crash)

    def _end(self, number: int, result: Mapping[str, Any] | None, crash: str | None = None) -> None:
        plan = self._ledger.plan
        outcome = judge(result, plan.objectives, constraints=plan.constraints, error=crash)
        if outcome is not None:
            self._ledger.finish(number, outcome)

    @contextlib.contextmanager
    def _ending_the_launch(self) -> Iterator[None]:
        """Tune would continue without a word, and an end be lost until the next launch."""
        if self.failure is not None:
            raise self.failure
        try:
            yield
        except Exception as failure:
            self.failure = failure
            raise

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the state is Optuna's storage, and `Tuner.restore` is not used."""

    def restore(self, checkpoint_path: str) -> None:
        """See `save`."""

    def __reduce__(self) -> Any:
        # Tune pickles its configuration to disk for `Tuner.restore`; a stand-in suffices.
        return (Searcher, ())
