"""Passwords stay out of sight; a silent address is found at once."""

import re
import socket
import time
from pathlib import Path

import pytest

from trainables.addresses import (
    STUDY_SCHEMES,
    TRACKING_SCHEMES,
    absolute,
    check_answers,
    check_ray_answers,
    choose,
    refused,
    scrubbed,
    without_password,
)
from trainables.command_line import masked
from trainables.errors import UserError


@pytest.mark.parametrize(
    ("address", "shown", "kept"),
    [
        ("postgresql://u:s3@cret@h:5/d", "postgresql://u:***@h:5/d", "postgresql://u@h:5/d"),
        (
            "postgresql+psycopg://u:s@h/d",
            "postgresql+psycopg://u:***@h/d",
            "postgresql+psycopg://u@h/d",
        ),
        ("http://u:s@h:5000", "http://u:***@h:5000", "http://u@h:5000"),
        (
            "postgresql://h/d?password=s",
            "postgresql://h/d?password=***",
            "postgresql://h/d?password=***",
        ),
        ("http://h:5000/a@b", "http://h:5000/a@b", "http://h:5000/a@b"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
    ],
)
def test_a_password_is_neither_shown_nor_kept(address: str, shown: str, kept: str) -> None:
    assert masked(address) == shown
    assert without_password(address) == kept


def test_a_message_of_somebody_else_is_scrubbed() -> None:
    address = "postgresql://u:hunter2@h/d"
    assert scrubbed(f"no {address}: bad password hunter2", address) == (
        "no postgresql://u:***@h/d: bad password ***"
    )
    assert "hunter2" not in str(refused("--tracking-uri", address, ValueError("hunter2")))


def test_a_file_is_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"
    assert absolute("sqlite:////a/x.db") == "sqlite:////a/x.db"
    assert absolute("http://h:1") == "http://h:1"


def test_the_option_then_the_record_with_the_environments_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("X", raising=False)
    assert choose(None, "X", None, "sqlite:////d") == "sqlite:////d"
    assert choose("http://h", "X", "http://r", "d") == "http://h"
    assert choose(None, "X", "http://u@r", "d") == "http://u@r"
    monkeypatch.setenv("X", "http://u:s@r")
    assert choose(None, "X", "http://u@r", "d") == "http://u:s@r"
    assert choose(None, "X", "http://u@elsewhere", "d") == "http://u@elsewhere"
    assert choose(None, "X", None, "d") == "http://u:s@r"  # a new study
    assert choose("http://h", "X", None, "d") == "http://h"


@pytest.mark.parametrize(
    "wrong",
    ["http://127.0.0.1:9", "postgresql://127.0.0.1:9/x", "file:///tmp/x", "nonsense", "http://h:x"],
)
def test_an_address_where_nobody_answers_is_found_in_seconds(wrong: str) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="`--tracking-uri` must be") as caught:
        check_answers("--tracking-uri", wrong, TRACKING_SCHEMES)
    assert wrong in str(caught.value)
    assert time.monotonic() - began < 5
    with pytest.raises(UserError, match="`--study-storage` must be"):
        check_answers("--study-storage", wrong, STUDY_SCHEMES)


def test_a_password_is_not_taken_for_the_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_answers("--tracking-uri", f"http://user:secret@127.0.0.1:{port}", TRACKING_SCHEMES)


def test_a_damaged_database_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "optuna.db"
    path.write_bytes(b"not a database at all")
    with pytest.raises(UserError, match="must be a SQLite database, got a damaged") as error:
        check_answers("--study-storage", f"sqlite:///{path}", ("sqlite",))
    assert str(path) in str(error.value)
    with pytest.raises(UserError, match="must be a journal of Optuna, got a damaged") as error:
        check_answers("--study-storage", f"journal:///{path}", ("journal",))
    assert str(path) in str(error.value)
    path.write_bytes(b"")  # what a driver killed before the first write leaves
    for scheme in ("sqlite", "journal"):
        check_answers("--study-storage", f"{scheme}:///{path}", (scheme,))
    with pytest.raises(UserError, match="it must read journal:///PATH"):
        check_answers("--study-storage", "journal:///", ("journal",))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense", "host:port"])
def test_a_ray_cluster_that_is_not_there_is_found_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"`--ray-address` must be a Ray cluster that answers"):
        check_ray_answers(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=re.escape(repr(address))):
        check_ray_answers("auto")
    check_ray_answers("local")
    monkeypatch.setenv("RAY_ADDRESS", "")
    check_ray_answers("auto")
