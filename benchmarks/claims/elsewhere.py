"""Studies behind the claims that are trained on a host without Ray, and brought back."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims.facts import PACKAGES
from benchmarks.claims.jobs import Options
from trainables.errors import Failure
from trainables.integrity.checksums import read_sealed
from trainables.sweep.folder import SUMMARY, SweepFolder


def export_grid(
    study: str,
    line: Sequence[str],
    swept: Path | None,
    options: Options,
    run: Callable[[Sequence[str]], int],
    say: Callable[[str], None],
) -> None:
    """Write a study's grid where grids are asked for, and say what is to be done with it.

    line: the command that would train it here. swept: where its sweep was looked for, or None.
    Raises `Failure` where the grid cannot be written.
    """
    if options.export_grids is None:
        say(f"{study}: no sweep in {swept}; --export-grids DIR writes its grid")
        return
    options.export_grids.mkdir(parents=True, exist_ok=True)
    grid = options.export_grids / f"{study}.json"
    code = run([*line, "--export-grid", str(grid), "--quiet"])
    if code:
        raise Failure(f"the grid of {study} was not written: exit status {code}")
    out = options.export_grids / study
    sweep = ["python", "-m", "trainables", "sweep", str(grid), "--out", str(out)]
    say(f"{study}: wrote {grid}; train it where a GPU is, then --import {options.export_grids}\n"
        f"  {shlex.join(sweep)}")  # fmt: skip


def facts_of_sweep(directory: Path) -> dict[str, Any]:
    """Return what a launch records, of the machine that trained a sweep.

    Raises `UserError` for a damaged folder.
    """
    folder = SweepFolder(directory)
    known = read_sealed(folder.description)
    seconds = 0.0
    gpu = None
    used: dict[str, str] = {}
    for number in range(len(known["trials"])):
        kept = folder.trial(number)
        gpu = (kept.result() or {}).get("gpu") or gpu
        try:
            summary = read_sealed(kept / SUMMARY)
        except OSError:
            continue
        seconds += summary.get("timing", {}).get("total_seconds", 0.0)
        used |= {n: v for n, v in summary.get("versions", {}).items() if n in PACKAGES}
    return {
        "machine": {"cpu": known["cpu"], "cores": known["cores"], "gpu": gpu},
        "versions": used,
        "commit": known["commit"],
        "seconds": round(seconds, 1),
    }
