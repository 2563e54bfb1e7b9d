"""NePS's PriMO (Basu et al. 2025, "Multi-objective Hyperparameter Optimization in the Age of Deep
Learning"), in a process of its own: its dependencies clash with those of this environment.

First it pauses trials and promotes them by several objectives (MOASHA, factor 3, from one report);
when it has spent as many full lengths as there are parameters it trains single trials at full
length, which a Gaussian process of the weighted sum of objectives proposes. No priors are given,
and its settings are its defaults. One worker: with several, NePS 0.17 gives two trials the same
number in the second phase. Two things are done for it that its documentation asks for or promises:
objectives come on the scale of the score, because it adds them up, and weights are drawn for every
proposal, where the code of 0.17 draws them once.
"""

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.pausing import Step
from benchmarks.search.workloads.workload import Report, Workload
from spaces.space import GivenValues, Space
from trainables.errors import UserError

VERSION = "0.17.0"  # of NePS
_REPOSITORY = Path(__file__).resolve().parents[3]
INTERPRETER = _REPOSITORY / "runs" / "peers" / "neps" / "bin" / "python"
_SERVER = Path(__file__).with_name("primo_server.py")
_MAKE = "`make peers-primo`"
_TOLD_CHARACTERS = 800  # of what a server wrote before it died


def environment_problem() -> str | None:
    """Return what keeps PriMO from running; None if nothing does."""
    folder = INTERPRETER.parents[1]
    if (folder / ".installed").is_file():  # what make writes at the end
        return None
    where = folder.relative_to(_REPOSITORY)
    return (
        f"PriMO needs the environment {where}, which is not there, or not whole: {_MAKE} makes it"
    )


class PriMO:
    """`neps.algorithms.primo` behind `neps.AskAndTell`: a `PausingSystem`.

    Its space has no conditions: every parameter is drawn, and those a trial does not read are left
    out before training. Raises `UserError` where the environment is missing or the server ends.
    """

    def __init__(
        self,
        workload: Workload,
        seed: int,
        *,
        interpreter: Path | None = None,
        server: Path = _SERVER,
    ) -> None:
        if interpreter is None and (problem := environment_problem()) is not None:
            raise UserError(problem)
        self._space = workload.space
        self._scale = getattr(workload, "normalisation", None)
        self._numbers: dict[str, int] = {}  # of trials, by the names that NePS gives them
        self._names: dict[int, str] = {}  # the last one that a trial had
        self._seconds = 0.0
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "stderr.txt"
        with self._log.open("wb") as stderr:
            self._server = subprocess.Popen(
                [interpreter or INTERPRETER, server],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        try:
            parameters = described_parameters(self._space)
            self._call({"seed": seed, "epochs": workload.num_epochs, "parameters": parameters})
        except BaseException:
            self.close()
            raise

    @property
    def thinking_seconds(self) -> float:
        """What the server took of the processor since it was ready."""
        return self._seconds

    def ask(self) -> Step:
        """The next step, of a new trial or a paused one."""
        asked = self._call({"ask": True})
        name, previous = asked["id"], asked["previous"]
        number = len(self._names) if previous is None else self._numbers[previous]
        self._numbers[name] = number
        self._names[number] = name
        params = self._space.suggest(GivenValues({**asked["params"], **self._space.fixed}))
        return Step(number=number, params=params, until=asked["until"])

    def tell(self, number: int, report: Report) -> None:
        """The last report of the step that was asked for."""
        values_M = np.asarray(report.values)
        if self._scale is not None:
            values_M = self._scale.apply(values_M)
        self._call({"tell": self._names[number], "values": values_M.tolist()})

    def close(self) -> None:
        """End the server."""
        self._server.kill()
        self._server.wait()
        for stream in (self._server.stdin, self._server.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # a line that nobody has read
                    stream.close()
        self._folder.cleanup()

    def _call(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with contextlib.suppress(OSError):  # it has died, which reading tells
            self._server.stdin.write(json.dumps(message) + "\n")
            self._server.stdin.flush()
        line = self._server.stdout.readline()
        if not line:
            raise UserError(self._obituary())
        answer: dict[str, Any] = json.loads(line)
        self._seconds = answer["seconds"]
        return answer

    def _obituary(self) -> str:
        self._server.kill()
        status = self._server.wait()
        told = self._log.read_text(encoding="utf-8", errors="replace").strip()[-_TOLD_CHARACTERS:]
        return (
            f"the server of PriMO ended with status {status} in place of an answer; if its "
            f"environment is broken, remove it and run {_MAKE}. It wrote last: {told or 'nothing'}"
        )


def described_parameters(space: Space) -> list[dict[str, Any]]:
    """The space as the server reads it; parameters with a fixed value are left out."""
    return [
        {"name": p.name, "kind": p.kind, "choices": list(p.choices)}
        if p.kind == "categorical"
        else {"name": p.name, "kind": p.kind, "low": p.low, "high": p.high, "log": p.log}
        for p in space.parameters
        if p.name not in space.fixed
    ]
