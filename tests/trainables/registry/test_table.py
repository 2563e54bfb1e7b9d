"""The README's table of methods is what the descriptions say."""

from pathlib import Path

import pytest

from trainables.errors import UserError
from trainables.registry.methods import METHODS
from trainables.registry.table import BEGIN, END, with_table


def test_the_readme_is_up_to_date(repository: Path) -> None:
    text = (repository / "README.md").read_text()
    assert with_table(text) == text, "run `make methods`"


def test_every_method_has_a_row_of_four_cells() -> None:
    rows = with_table(f"before {BEGIN} old {END} after").splitlines()
    assert (rows[0], rows[-1]) == (f"before {BEGIN}", f"{END} after")
    cells = [row.replace(r"\|", "/").split(" | ") for row in rows[3:-1]]
    assert [row[0] for row in cells] == [f"| `{name}`" for name in METHODS]
    assert {len(row) for row in cells} == {4}


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_document_without_marks_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="methods:begin"):
        with_table(text)
