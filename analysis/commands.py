"""Define `python -m analysis compare|table|published|layers`, which set systems side by side.

Each command imports what it needs when it runs, so that --help and mistakes in the options are
answered at once.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from analysis.options import JsonFile, Name, Out, Quiet, Storage, TrackingUri
from trainables.checks import parse_share
from trainables.errors import UserError
from trainables.terminal.answers import STDOUT, write_json

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.studies.systems_by_seed import Grid
    from analysis.tables.typeset import Table

Sparsities = Annotated[
    str | None,
    typer.Option(
        "--sparsity", metavar="S,…", help="Only these, e.g. 0.3,0.9, and the dense systems."
    ),
]


def compare(
    name: Name,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD", help="The method to compare with; default: dense, else random."
        ),
    ] = None,
    sparsity: Sparsities = None,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Out = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Compare a study's systems with one of them, paired by seed.

    For every task's primary metric and for the joint measure (the mean relative change to the
    reference) it gives the mean difference with its 95 % interval, the effect size, and Wilcoxon's
    p with Holm's correction. Values are on test if every trial was evaluated there, else on val.
    Writes compare.md, .tex and .parquet, and compare.png, a forest plot.

    \b
    Examples:
      python -m analysis compare demo-baselines
      python -m analysis compare demo-baselines --reference snip --sparsity 0.9
    """
    from analysis.report.grid import write_forest
    from analysis.statistics.comparing.paired import compare_systems
    from analysis.tables import comparisons

    started = time.perf_counter()
    grid = _grid(name, storage, tracking_uri, sparsity, quiet)
    rows = compare_systems(grid, reference)
    tables, remarks = comparisons.tables(grid, rows), comparisons.remarks(rows)
    folder = _folder(grid, out)
    paths = _write("compare", folder, tables, remarks, comparisons.to_table(grid, rows))
    paths.append(write_forest(grid, rows, folder))
    _tell(quiet or json_file == Path(STDOUT), tables, remarks, paths)
    _answer(
        json_file,
        "compare",
        [grid],
        paths,
        started,
        {"comparisons": [comparisons.to_json(grid, row) for row in rows], "remarks": remarks},
    )


def table(
    name: Name,
    sparsity: Sparsities = None,
    primary: Annotated[
        bool, typer.Option("--primary", help="Print the primary metric of each task alone.")
    ] = False,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Out = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Tabulate every metric of a study by system: mean and deviation over seeds.

    Writes table.md, table.tex (booktabs) and table.parquet.

    \b
    Examples:
      python -m analysis table demo-baselines
      python -m analysis table demo-baselines --sparsity 0.9 --out paper
      python -m analysis table demo-baselines --primary
    """
    from analysis.tables import summaries

    started = time.perf_counter()
    grid = _grid(name, storage, tracking_uri, sparsity, quiet)
    tables = summaries.tables(grid)
    paths = _write("table", _folder(grid, out), tables, [], summaries.to_table(grid))
    _tell(
        quiet or json_file == Path(STDOUT),
        [summaries.primary_table(grid)] if primary else tables,
        [],
        paths,
    )
    _answer(json_file, "table", [grid], paths, started, {"systems": summaries.to_json(grid)})


def published(
    dataset: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="nyu-v2, cityscapes or taskonomy; default: all."),
    ] = None,
    study: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A study to set beside the papers. Repeatable."),
    ] = None,
    sparsity: Annotated[
        str | None,
        typer.Option(
            "--sparsity", metavar="S,…", help="Of the studies; default: those of the papers."
        ),
    ] = None,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write; default: the study's folder, else none."),
    ] = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Show the papers' tables, with a study's own numbers beside them if one is named.

    Studies are shown at the papers' sparsities, 30 % and 90 %, as far as they have them. It says
    how long they trained, by which definition they measure, and the protocols side by side: the
    papers' as stated, ours from the study's record. Writes
    published-DATASET.md and .tex; without a study, only if --out names a folder.

    \b
    Examples:
      python -m analysis published --dataset nyu-v2
      python -m analysis published --study nyu-v2-paper-baselines
      python -m analysis published --study nyu-v2-small-baselines --json published.json
    """
    from analysis.tables import beside, papers

    started = time.perf_counter()
    if dataset is not None:
        papers.check_dataset(dataset)
    grids = [_grid(name, storage, tracking_uri, sparsity, quiet) for name in study or []]
    if sparsity is None:
        grids = [beside.at_published_sparsities(grid) for grid in grids]
    of_studies = beside.dataset_of(grids) if dataset is None else dataset
    datasets = [of_studies] if of_studies is not None else list(papers.DATASETS)
    folder = _folder(grids[0], out) if grids else out
    paths: list[Path] = []
    for name in datasets:
        tables = [beside.results_table(name, grids), beside.protocol_table(name, grids)]
        remarks = beside.remarks(name, grids)
        written = [] if folder is None else _write(f"published-{name}", folder, tables, remarks)
        _tell(quiet or json_file == Path(STDOUT), tables, remarks, written)
        paths += written
    tables_json = [beside.to_json(name, grids) for name in datasets]
    _answer(json_file, "published", grids, paths, started, {"tables": tables_json})


def layers(
    name: Name,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET", help="The data set of the published curve; default: the study's."
        ),
    ] = None,
    sparsity: Sparsities = None,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = None,
    out: Out = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Show density and agreement among tasks by layer, beside the published curves.

    Does agreement fall with depth? The answer is Spearman's correlation with a layer's place, by
    system, with its interval over seeds. Writes layers.md, .tex and .parquet, layers-density.png
    and, if tasks voted, layers-agreement.png.

    \b
    Examples:
      python -m analysis layers demo-baselines
      python -m analysis layers demo-baselines --dataset taskonomy --sparsity 0.9
    """
    from analysis.plots.layers import files
    from analysis.statistics.watershed import read_layers
    from analysis.tables import layer_tables, papers

    started = time.perf_counter()
    if dataset is not None:
        papers.check_dataset(dataset)
    grid = _grid(name, storage, tracking_uri, sparsity, quiet)
    found = read_layers(grid)
    own = str(grid.study.facts.get("dataset"))
    chosen = dataset or (own if own in papers.DATASETS else papers.DATASETS[0])
    tables, remarks = [layer_tables.density_table(found)], []
    if any(item.votes for item in found):
        tables = [
            layer_tables.correlation_table(found, papers.DATASETS),
            layer_tables.agreement_table(found, chosen),
            *tables,
        ]
        remarks = layer_tables.remarks()
    folder = _folder(grid, out)
    paths = _write("layers", folder, tables, remarks, layer_tables.to_table(found))
    paths += files.write(grid, found, papers.DATASETS, folder)
    _tell(quiet or json_file == Path(STDOUT), tables, remarks, paths)
    _answer(json_file, "layers", [grid], paths, started, {"systems": layer_tables.to_json(found)})


def _grid(
    name: str, storage: Path, tracking_uri: str | None, sparsity: str | None, quiet: bool
) -> "Grid":
    chosen = None if sparsity is None else _fractions(sparsity)
    from analysis.studies.systems_by_seed import read_grid
    from analysis.studies.trials import load_study

    grid = read_grid(load_study(name, storage, tracking_uri), chosen)
    for note in () if quiet else grid.notes:
        print(f"note: {note}", file=sys.stderr)
    return grid


def _fractions(text: str) -> list[float]:
    found = [parse_share(part, "--sparsity") for part in text.split(",") if part.strip()]
    if not found or not all(0 < value < 1 for value in found):
        raise UserError(
            f"`--sparsity` takes fractions in (0, 1), separated by commas, got {text!r}; "
            "e.g. --sparsity 0.3,0.9 or 30%,90%"
        )
    return found


def _folder(grid: "Grid", out: Path | None) -> Path:
    return grid.study.directory if out is None else out


def _write(
    stem: str,
    folder: Path,
    tables: Sequence["Table"],
    remarks: Sequence[str],
    rows: "pa.Table | None" = None,
) -> list[Path]:
    """Write STEM.md, STEM.tex and, with `rows`, STEM.parquet; returns their paths."""
    from analysis.tables import typeset

    notes = "".join(f"\n{text}\n" for text in remarks)
    pages = "\n".join(typeset.markdown(one) for one in tables)
    comments = "".join(f"% {typeset.escaped(text)}\n" for text in remarks)
    sheets = "\n".join(typeset.latex(one) for one in tables)
    paths = [
        typeset.write_text(folder / f"{stem}.md", pages + notes),
        typeset.write_text(folder / f"{stem}.tex", comments + sheets),
    ]
    if rows is not None:
        paths.append(typeset.write_parquet(folder / f"{stem}.parquet", rows))
    return paths


def _tell(
    quiet: bool, tables: Sequence["Table"], remarks: Sequence[str], paths: Sequence[Path]
) -> None:
    from analysis.tables import typeset

    if quiet:
        return
    for one in tables:
        print(f"{one.title}\n{typeset.plain(one)}\n")
    for text in remarks:
        print(text)
    for path in paths:
        print(f"  {path}")


def _answer(
    json_file: Path | None,
    command: str,
    grids: Sequence["Grid"],
    paths: Sequence[Path],
    started: float,
    found: Mapping[str, Any],
) -> None:
    if json_file is None:
        return
    from analysis.report.versions import versions

    names = [grid.study.name for grid in grids]
    write_json(
        json_file,
        {
            "command": command,
            **({"studies": names} if command == "published" else {"study": names[0]}),
            "splits": sorted({grid.split for grid in grids}),
            "notes": [note for grid in grids for note in grid.notes],
            **found,
            "files": [str(path) for path in paths],
            "timing": {"seconds": round(time.perf_counter() - started, 3)},
            "versions": versions(),
        },
    )
