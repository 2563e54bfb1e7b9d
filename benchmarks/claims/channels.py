"""`python -m benchmarks.claims.channels`: what channels, N:M and single weights cost and buy.

Runs four grids on the procedural scenes, each resumable, and writes docs/channels.md with its
picture: DiSparse's channel vote against the field's channel baselines at equal FLOPs, paired by
seed, and quality against measured latency for every structure. Margins and the rule of a verdict
are those of `benchmarks.claims.protocol`: an effect holds where its whole interval lies above 0.
"""

import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure

from analysis.methods import method_style
from analysis.statistics.comparing.paired import Row, compare_systems
from analysis.studies.systems_by_seed import DELTA, Grid, read_grid
from analysis.studies.trials import load_study
from benchmarks.claims.__main__ import REPOSITORY, run_process
from benchmarks.claims.facts import machine
from trainables.errors import Failure
from trainables.report import describe
from trainables.terminal.answers import write_json
from trainables.terminal.command_line import run_command_line

RECIPE, OURS = "ship-scenes", "disparse-pretrained"
RIVALS = ("random-pretrained", "channel-l1", "channel-taylor", "small-dense")
STEPS, NUM_SEEDS = 400, 5
FLOPS_LEFT = (0.5, 0.25)
_TIME, _SPREAD = "cost/latency_fraction", "cost/latency_spread"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Describes one grid: its study, its systems, and the settings that differ."""

    study: str
    label: str
    methods: tuple[str, ...]
    sparsities: tuple[float, ...]
    settings: tuple[str, ...]
    seeds: int = 3

    def command(self, storage: Path) -> list[str]:
        """Return the command line that runs or resumes the grid."""
        settings = (*self.settings, f"training.steps={STEPS}", "training.num_reports=2")
        return [
            *("python", "-m", "search", "baselines", RECIPE, "--name", self.study),
            *("--seeds", str(self.seeds), "--methods", ",".join(self.methods)),
            *("--sparsities", ",".join(f"{s:g}" for s in self.sparsities)),
            *("--storage", str(storage)),
            *(word for s in (*settings, "deployment.measure=true") for word in ("--set", s)),
        ]


PARTS = (
    Part(
        study="channels",
        label="channels",
        methods=("dense", RIVALS[0], OURS, *RIVALS[1:]),
        sparsities=tuple(1 - left for left in FLOPS_LEFT),
        settings=(),
        seeds=NUM_SEEDS,
    ),
    Part(
        study="structure-weight",
        label="single weights",
        methods=(OURS,),
        sparsities=(0.5, 0.75, 0.9),
        settings=("sparsity.structure=weight",),
    ),
    *(
        Part(
            study=f"structure-{n}-of-{m}",
            label="N:M",
            methods=(OURS,),
            sparsities=(1 - n / m,),
            settings=(f"sparsity.structure={n}:{m}",),
        )
        for n, m in ((2, 4), (1, 4))
    ),
)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def channels(
    storage: Annotated[Path, typer.Option(help="Folder that holds the studies.")] = Path("runs"),
    write_only: Annotated[
        bool, typer.Option("--write-only", help="Run nothing; write from what is finished.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder; default: docs/.")] = None,
) -> None:
    """Run what is missing of the grids, and write channels.md, channels.json and the picture."""
    if not write_only:
        for part in PARTS:
            if code := run_process([sys.executable, *part.command(storage)[1:]]):
                raise Failure(f"{part.study} ended with exit status {code}; run this again")
    grids = {part.study: read_grid(load_study(part.study, storage)) for part in PARTS}
    folder = out or REPOSITORY / "docs"
    found = collect(grids)
    write_json(folder / "channels.json", found)
    draw(found, folder / "images" / "structures.png")
    (folder / "channels.md").write_text(render(found), encoding="utf-8")
    print(f"wrote {folder / 'channels.md'}")


def collect(grids: Mapping[str, Grid]) -> dict[str, Any]:
    """Return every number of the document, ready for JSON."""
    rows = [
        _row(row)
        for rival in RIVALS
        for row in compare_systems(grids["channels"], rival)
        if row.system.method == OURS
    ]
    points = [
        {**_point(grid, system), "structure": part.label, "study": part.study}
        for part in PARTS
        for grid in (grids[part.study],)
        for system in grid.systems
    ]
    primary = grids["channels"].primary()
    commands = [shlex.join(part.command(Path("runs"))) for part in PARTS]
    return {
        "rows": rows,
        "points": points,
        "primary": primary,
        "commands": commands,
        "steps": STEPS,
        "machine": machine(),
    }


def _row(row: Row) -> dict[str, Any]:
    found = row.found
    return {
        "rival": row.reference.method,
        "sparsity": row.system.sparsity,
        "measure": row.measure,
        "mean": found.mean,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": found.p_value,
        "pairs": found.num_pairs,
        "verdict": "holds"
        if found.interval.low > 0
        else "does not hold"
        if found.interval.high < 0
        else "undecided",
    }


def _point(grid: Grid, system: Any) -> dict[str, Any]:
    trials = list(system.trials.values())

    def mean(name: str) -> float:
        return statistics.fmean(grid.value(trial, name) for trial in trials)

    return {
        "method": system.method,
        "sparsity": system.sparsity,
        "seeds": len(trials),
        "time": statistics.median(grid.value(trial, _TIME) for trial in trials),
        "spread": statistics.median(grid.value(trial, _SPREAD) for trial in trials),
        "milliseconds": statistics.median(grid.value(t, "cost/latency_ms") for t in trials),
        "bytes": mean("cost/model_bytes"),
        "flops": mean("cost/flops_fraction"),
        "density": mean("cost/density"),
        "quality": {name: mean(name) for name in grid.primary()},
    }


def render(found: Mapping[str, Any]) -> str:
    """Return the document as Markdown."""
    pairs = [row for row in found["rows"] if row["measure"] == DELTA]
    dense = next(p for p in found["points"] if p["method"] == "dense")
    lines = [
        "# Channels: what the vote is worth, and what each structure buys",
        "",
        "Written by `python -m benchmarks.claims.channels`; edit the code, not the file. All",
        "numbers are in `channels.json`.",
        "",
        f"Procedural scenes, preset `tiny`, three tasks, {found['steps']} steps for every system,",
        "pre-training included. Channels are counted in FLOPs. *Δ_T* is the mean relative",
        f"improvement of `{OURS}` over the other system on the test split, in percent, paired by",
        "seed, with Student's 95 % interval; it **holds** where the whole interval lies above 0,",
        "**does not hold** where all of it lies below, else it is **undecided**. Nothing was",
        "tuned: every system has the defaults of its preset.",
        "",
        "## DiSparse's channel vote against the field, at equal FLOPs",
        "",
        "| against | " + " | ".join(f"{left:.0%} of the FLOPs" for left in FLOPS_LEFT) + " |",
        "|---|" + "---|" * len(FLOPS_LEFT),
    ]
    for rival in RIVALS:
        cells = []
        for left in FLOPS_LEFT:
            row = _of(pairs, rival=rival, sparsity=1 - left)
            cells.append(
                f"**{row['verdict']}**: {row['mean']:+.2f} [{row['low']:+.2f}, "
                f"{row['high']:+.2f}] %, n = {row['pairs']}"
            )
        lines.append(f"| {method_style(rival).label} | {' | '.join(cells)} |")
    lines += [
        "",
        "## What each system costs and reaches",
        "",
        "Means over seeds, on test. *Time* is the median ratio to the dense network, measured in",
        f"turns in one process ({_machine(found)}; ONNX Runtime, one thread, batch of 1),",
        "with half the median interquartile range of its pairs; two trials ran at once.",
        "",
        "| structure | system | FLOPs | weights kept | time / dense | bytes / dense | "
        + " | ".join(f"{name}" for name in found["primary"])
        + " |",
        "|---|---|--:|--:|--:|--:|" + "--:|" * len(found["primary"]),
    ]
    for point in found["points"]:
        lines.append(
            f"| {point['structure']} | {method_style(point['method']).label} | "
            f"{point['flops']:.2f} | {point['density']:.2f} | {point['time']:.2f} "
            f"(± {point['spread'] / 2:.2f}) | {point['bytes'] / dense['bytes']:.2f} | "
            + " | ".join(f"{point['quality'][name]:.4g}" for name in found["primary"])
            + " |"
        )
    lines += [
        "",
        "![Quality against measured latency for three structures](images/structures.png)",
        "",
        "Single weights and N:M buy bytes and no time on this CPU, at any sparsity: its kernels",
        "are dense. Channels buy both. 2:4 was not measured on a GPU.",
        "",
        "## Commands",
        "",
        "```",
        *found["commands"],
        "```",
        "",
    ]
    return "\n".join(lines)


def _machine(found: Mapping[str, Any]) -> str:
    about = found["machine"]
    return f"{about['cpu']}, {about['cores']} cores"


def _of(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> Mapping[str, Any]:
    return next(
        row
        for row in rows
        if row["rival"] == wanted["rival"] and abs(row["sparsity"] - wanted["sparsity"]) < 1e-9
    )


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Draw each task's quality against latency, one line for each structure of our method."""
    styles = {
        "channels": ("#009E73", "o"),
        "N:M": ("#E69F00", "^"),
        "single weights": ("#0072B2", "s"),
    }
    primary = found["primary"]
    figure = Figure(figsize=(4.2 * len(primary), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(primary), squeeze=False)[0], primary, strict=True):
        for structure, (colour, marker) in styles.items():
            ours = sorted(
                (p["flops"], p["time"], p["quality"][name])
                for p in found["points"]
                if p["structure"] == structure and p["method"] == OURS
            )
            _, times, values = zip(*ours, strict=True)
            axes.plot(times, values, color=colour, marker=marker, label=f"DiSparse, {structure}")
        for method, look in (("dense", ("#000000", "*")), ("small-dense", ("#8c8c8c", "D"))):
            points = [
                (p["time"], p["quality"][name]) for p in found["points"] if p["method"] == method
            ]
            axes.scatter(
                *zip(*points, strict=True),
                color=look[0],
                marker=look[1],
                zorder=3,
                label=method_style(method).label,
            )
        axes.set_xlabel("time of one image / dense")
        better = "higher" if describe(name).direction == "maximize" else "lower"
        axes.set_title(f"{name} ({better} is better)", fontsize="medium")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    run_command_line(app)
