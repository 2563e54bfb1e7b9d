"""`python -m benchmarks.orchestration`: what a study costs beside training, and how that grows."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.orchestration.systems import OURS, SYSTEMS
from trainables.errors import Failure, UserError, unknown_name
from trainables.terminal.answers import write_json
from trainables.terminal.command_line import run_command_line

app = typer.Typer(
    name="python -m benchmarks.orchestration",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

REPOSITORY = Path(__file__).resolve().parents[2]
_TARGET = 0.01  # of wall time, for trials of a minute
_SHOWN = (
    "trials_per_second",
    "share_of_a_minute",
    "driver_cpu_ms_per_trial",
    "other_cpu_ms_per_trial",
    "driver_start_mib",
    "driver_end_mib",
)


@app.command(
    epilog="""Examples:

`python -m benchmarks.orchestration`

`python -m benchmarks.orchestration --trials 1000 --concurrent 2 --systems random,raw --rounds 3`

`python -m benchmarks.orchestration --trials "" --grow 10000 --json runs/orchestration.json`
"""
)
def orchestration(
    trials: Annotated[str, typer.Option(help="Comma-separated numbers of trials.")] = "200",
    concurrent: Annotated[str, typer.Option(help="How many at once.")] = "2",
    systems: Annotated[str, typer.Option(help=f"Of {', '.join(SYSTEMS)}.")] = ",".join(SYSTEMS),
    rounds: Annotated[int, typer.Option(min=1, help="Of all systems, one after another.")] = 1,
    grow: Annotated[
        int, typer.Option(help="Simulated trials, for memory and the cost of an ask; 0: none.")
    ] = 1000,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write one JSON object to this file.")
    ] = None,
) -> None:
    """Run trials that report three times and do nothing else, each system in a fresh process.

    Seconds run until everything is written and closed, without those in which Ray starts and
    ends. `of a minute` is the share of wall time that would be lost if each trial trained for a
    minute, Ray's own part of it included; raw Ray is there to show that part. Close other
    programs first.
    """
    chosen = _split(systems)
    for name in chosen:
        if name not in SYSTEMS:
            raise unknown_name("system", name, SYSTEMS)
    sizes, at_once = _numbers("--trials", trials), _numbers("--concurrent", concurrent)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        database = Path(folder) / "empty.db"
        _make_tables(database)
        for num_trials in sizes:
            for num_at_once in at_once:
                print(f"\n{num_trials} trials, {num_at_once} at once", flush=True)
                block = []
                for _ in range(rounds):
                    for name in chosen:
                        block.append(_run_one(name, num_trials, num_at_once, database))
                rows += block
                for line in table(block):
                    print(line, flush=True)
    grown = _grow(grow) if grow else []
    if json_file is not None:
        write_json(
            json_file,
            {
                "command": ["python", "-m", "benchmarks.orchestration", *sys.argv[1:]],
                "cores": len(os.sched_getaffinity(0)),
                "load_average": os.getloadavg()[0],
                "systems": rows,
                "growth": grown,
            },
        )


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one line per system: medians over rounds."""
    yield (f"{'system':<12} trials/s  of a minute  driver ms  other ms  driver MiB, start and end")
    for name in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == name]
        middle = {key: statistics.median(row[key] for row in mine) for key in _SHOWN}
        share = middle["share_of_a_minute"]
        line = (
            f"{name:<12} {middle['trials_per_second']:8.2f} {100 * share:10.2f} % "
            f"{middle['driver_cpu_ms_per_trial']:10.1f} {middle['other_cpu_ms_per_trial']:9.1f} "
            f"{middle['driver_start_mib']:11.0f} {middle['driver_end_mib']:5.0f}"
        )
        if name in OURS:
            line += f"   target <= {100 * _TARGET:g} %: {'met' if share <= _TARGET else 'MISSED'}"
        yield line


def _run_one(name: str, trials: int, concurrent: int, database: Path) -> dict[str, Any]:
    code = (
        "import json, sys; from pathlib import Path; "
        "from benchmarks.orchestration.systems import measure; name, folder, *rest = sys.argv[1:]; "
        "print(json.dumps(measure(name, Path(folder), int(rest[0]), int(rest[1]), Path(rest[2]))))"
    )
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        arguments = [name, folder, str(trials), str(concurrent), str(database)]
        return _last_line([sys.executable, "-c", code, *arguments])


def _make_tables(database: Path) -> None:
    """Of MLflow, once; in a process of its own, as all the rest."""
    code = (
        "import sys; from mlflow.tracking import MlflowClient; "
        "MlflowClient(f'sqlite:///{sys.argv[1]}').search_experiments()"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(database)], check=True, capture_output=True, cwd=REPOSITORY
    )


def _grow(trials: int) -> list[dict[str, Any]]:
    rows = []
    for sampler in ("random", "tpe"):
        print(f"\n{trials} simulated trials, {sampler}", flush=True)
        rows += _stream(["grow", str(trials), sampler], {"sampler": sampler})
    for objectives in (2, 3, 6):
        print(f"\ndecisions at one rung, {objectives} objectives", flush=True)
        rows += _stream(["decisions", "10000", str(objectives)], {})
    return rows


def _stream(arguments: list[str], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a growth, shown as they come."""
    rows = []
    command = [sys.executable, "-m", "benchmarks.orchestration.growth", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        for line in process.stdout or ():
            row = json.loads(line)
            print("  ".join(f"{k} {_short(v)}" for k, v in row.items()), flush=True)
            rows.append({**facts, **row})
    if process.returncode:
        raise Failure(f"{' '.join(command)} exited {process.returncode}")
    return rows


def _last_line(command: list[str]) -> dict[str, Any]:
    """What the process says at its end; the rest is Ray's."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        tail = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Failure(f"a system did not end well ({' '.join(command[3:6])}): {tail}")
    return dict(json.loads(lines[-1]))


def _numbers(option: str, text: str) -> list[int]:
    words = _split(text)
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"`{option}` must be whole numbers above 0, got {text!r}; e.g. 200,1000")
    return [int(word) for word in words]


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


if __name__ == "__main__":
    run_command_line(app)
