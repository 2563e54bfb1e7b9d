"""Writes the README's table of methods from their descriptions.

Run `make methods`, or `python -m trainables.registry.table README.md`.
"""

import sys
from pathlib import Path

from trainables.errors import UserError
from trainables.registry.methods import METHODS

BEGIN, END = "<!-- methods:begin -->", "<!-- methods:end -->"


def methods_table() -> str:
    """Return the table as Markdown, one row for each built-in method."""
    rows = [("method", "masks", "structures", "from"), ("---",) * 4]
    rows += [
        (f"`{m.name}`", m.summary, ", ".join(m.structures) or "–", m.paper)
        for m in METHODS.values()
    ]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows
    )


def with_table(text: str) -> str:
    """Return a document with the table between its two marks.

    Raises `UserError` if a mark is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UserError(f"the document must hold {BEGIN} and {END}, got neither or one; add them")
    return f"{before}{begin}\n{methods_table()}\n{end}{after}"


def main(path: Path) -> None:
    """Write the table into the document at `path`."""
    path.write_text(with_table(path.read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "README.md"))
