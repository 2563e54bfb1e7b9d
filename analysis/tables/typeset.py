"""Write one table as text, Markdown and LaTeX, and files whole or not at all."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from trainables.errors import UserError

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "Δ": r"$\Delta$",
    "δ": r"$\delta$",
    "°": r"$^{\circ}$",
    "²": r"$^{2}$",
    "³": r"$^{3}$",
    "<": r"$<$",
    ">": r"$>$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "−": r"$-$",
    "–": "--",
    "·": r"$\cdot$",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Hold a table: `rows` of as many cells as `heads`.

    num_words: how many of the first columns are words; the others are numbers. rules: the rows
    before which a line is drawn in LaTeX.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_words: int = 1
    rules: Sequence[int] = ()


def markdown(table: Table) -> str:
    """Write a table in GitHub's flavour under a heading; pipes in cells are escaped."""
    return f"## {table.title}\n\n{markdown_rows(table.heads, table.rows, table.num_words)}\n"


def markdown_rows(
    heads: Sequence[str], rows: Iterable[Sequence[str]], num_words: int | None = None
) -> str:
    """Write the table of `markdown` without its heading.

    num_words: None where all columns are words.
    """
    words = len(heads) if num_words is None else num_words
    marks = [":--" if i < words else "--:" for i in range(len(heads))]
    lines = [heads, marks, *rows]
    return "\n".join(f"| {' | '.join(c.replace('|', '&#124;') for c in line)} |" for line in lines)


def latex(table: Table) -> str:
    """Write a LaTeX `table` with rules of the package booktabs, in plain ASCII."""
    columns = "l" * table.num_words + "r" * (len(table.heads) - table.num_words)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row(table.heads),
        r"\midrule",
    ]
    for index, row in enumerate(table.rows):
        if index in table.rules:
            lines.append(r"\midrule")
        lines.append(_latex_row(row))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def plain(table: Table) -> str:
    """Write a table for a terminal, its columns aligned by spaces."""
    widths = [max(len(r[i]) for r in (table.heads, *table.rows)) for i in range(len(table.heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < table.num_words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (table.heads, *table.rows)
    )


def escaped(text: str) -> str:
    """Escape text for LaTeX."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, whole or not at all, and return its path.

    Raises `UserError` where the folder is not writable.
    """
    return _write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_parquet(path: Path, rows: pa.Table) -> Path:
    """Write a Parquet file, whole or not at all, and return its path.

    Raises `UserError` where the folder is not writable.
    """
    return _write(path, lambda partial: pq.write_table(rows, partial))


def write_csv(path: Path, rows: pa.Table) -> Path:
    """Write a CSV file, whole or not at all, and return its path.

    Raises `UserError` where the folder is not writable.
    """
    return _write(path, lambda partial: csv.write_csv(rows, partial))


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; name another folder with --out"
        ) from None
    return path


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """Write mean ± sample standard deviation, for example "0.412 ± 0.008".

    One value is written alone, and no value as "–".
    """
    if not values:
        return "–"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    deviation = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"
