"""`masked` hides passwords and nothing else."""

import pytest

from trainables.terminal.command_line import masked


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:secret@host:5000/a", "http://user:***@host:5000/a"),
        ("https://user:se@cret@host", "https://user:***@host"),
        ("postgresql+psycopg://u:a/b%40c@h:5432/db", "postgresql+psycopg://u:***@h:5432/db"),
        ("postgresql://u:1/2@h/db", "postgresql://u:***@h/db"),
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("postgresql://u@h/db?password=secret&x=1", "postgresql://u@h/db?password=***&x=1"),
        ("https://h/a?access_token=secret#b", "https://h/a?access_token=***#b"),
        (
            "cannot reach 'http://u:secret@h' nor postgresql://v:other@k/db; name another",
            "cannot reach 'http://u:***@h' nor postgresql://v:***@k/db; name another",
        ),
    ],
)
def test_passwords_are_hidden(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "runs/mlflow.db",
        "sqlite:////data/a:b@c/mlflow.db",
        "http://host:5000/a@b",
        "http://user@host/",
        "postgresql://host:5432/db",
        "s3://bucket/key:1",
    ],
)
def test_an_address_without_a_password_stays_as_it_is(text: str) -> None:
    assert masked(text) == text
