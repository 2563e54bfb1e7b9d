"""An unknown name gets a near one, and a list or the command that lists."""

import pytest

from trainables.errors import unknown_name

MANY = [f"name-{number}" for number in range(30)]


@pytest.mark.parametrize(
    ("kind", "listed"),
    [
        *(("metric", "metrics"), ("cost metric", "metrics"), ("data set", "datasets")),
        *(("method", "methods"), ("model", "models"), ("task", "tasks")),
    ],
)
def test_a_long_list_is_left_to_the_command_that_prints_it(kind: str, listed: str) -> None:
    assert str(unknown_name(kind, "name-1x", MANY)) == (
        f"unknown {kind} 'name-1x'. Did you mean 'name-1'? `python -m trainables list {listed}` "
        "lists them all."
    )
    assert str(unknown_name(kind, "name-1x", MANY[:2])).endswith("? Valid: name-0, name-1.")


def test_a_long_list_that_no_command_prints_is_shown() -> None:
    said = str(unknown_name("setting", "name-1x", MANY))
    assert "Did you mean 'name-1'? Valid: name-0, " in said
    assert all(name in said for name in MANY)
