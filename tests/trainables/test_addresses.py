"""Passwords stay out of sight; a silent address is found at once."""

import re
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables import addresses
from trainables.addresses import (
    STUDY_SCHEMES,
    TRACKING_SCHEMES,
    absolute,
    check_answers,
    check_ray_answers,
    check_two,
    check_writable,
    choose,
    file_address,
    left_behind,
    local_file,
    refused,
    scrubbed,
    without_password,
)
from trainables.errors import UserError
from trainables.terminal.command_line import masked


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
    [
        "http://127.0.0.1:9",
        "postgresql://127.0.0.1:9/x",
        "file:///tmp/x",
        "nonsense",
        "http://h:x",
        "http://[::1",
        "http://",
        "sqlite:///:memory:",
        "sqlite:///file:/tmp/x.db?uri=true",
        "sqlite:////tmp/x.db?mode=ro",
        "sqlite:////tmp",
        "journal:////tmp/",
    ],
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


@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
    | st.sampled_from(["100%", "a%20b", "%", "a?b=c&token=d", "a#b", "-dash", "a:b@c", "'\"", "~"])
)
def test_a_file_of_any_name_has_an_address(name: str) -> None:
    import sqlalchemy

    path = Path("/folder") / name / "x.db"
    for scheme in ("sqlite", "journal"):
        address = file_address(scheme, path)
        assert local_file(address) == path
        assert absolute(address) == address == without_password(address)
        assert local_file(f"{address}?timeout=9", scheme) == path
    assert sqlalchemy.make_url(file_address("sqlite", path)).database == str(path)


def test_an_address_is_decoded_as_sqlalchemy_does(tmp_path: Path) -> None:
    assert local_file("sqlite:////a%20b/x%25.db") == Path("/a b/x%.db")
    assert absolute("sqlite+pysqlite:////a%20b/x.db?y=1") == "sqlite+pysqlite:////a b/x.db?y=1"


@pytest.mark.parametrize("option", ["--tracking-uri", "--study-storage"])
def test_a_database_of_another_program_is_left_alone(tmp_path: Path, option: str) -> None:
    path = tmp_path / "places.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"`{option}` must be a database of .* tables bookmarks"):
        check_answers(option, f"sqlite:///{path}", ("sqlite",))
    assert path.read_bytes() == before
    check_answers(option, f"sqlite:///{tmp_path / 'new.db'}", ("sqlite",))


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_locked_file_is_said(tmp_path: Path, lock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_LOCK_SECONDS", 0.1)
    address = file_address("sqlite", tmp_path / "o%.db")
    holder = sqlite3.connect(tmp_path / "o%.db", isolation_level=None)
    holder.execute("CREATE TABLE studies (x)")
    check_writable("--study-storage", address)
    holder.execute(f"BEGIN {lock}")
    with pytest.raises(UserError, match=r"is locked.*another program holds it; close that one"):
        check_writable("--study-storage", address)
    holder.close()


def test_a_file_that_cannot_be_is_said_before_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file.* is a file, not a folder"):
        check_writable("--tracking-uri", f"sqlite:///{tmp_path}/file/folder/x.db")
    check_writable("--tracking-uri", f"sqlite:///{tmp_path}/new/folder/x.db")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_database_is_not_for_both(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    file = f"sqlite:///{tmp_path}/x.db"
    server = "postgresql://u:s@h:5/d"
    for one, other in (
        (file, f"sqlite+pysqlite:///{tmp_path}/link/x.db?timeout=3"),
        (server, "postgresql+psycopg://v@h:5/d"),
    ):
        with pytest.raises(UserError, match="must be another database than `--tracking-uri`"):
            check_two(one, other)
    check_two(file, server)
    check_two(server, "postgresql://u:s@h:5/e")
    check_two(file, f"journal:///{tmp_path}/y")


def test_files_of_mlflow_are_left_behind_by_a_move(tmp_path: Path) -> None:
    (tmp_path / "old" / "mlartifacts").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "old", target_is_directory=True)
    kept = (tmp_path / "old" / "mlartifacts" / "7" / "artifacts").as_uri()
    for folder, left in (("old", False), ("link", False), ("new", True)):
        wanted = tmp_path / "old" if left else None
        assert left_behind(file_address("sqlite", tmp_path / folder / "m.db"), kept) == wanted
        assert left_behind(f"sqlite:///{tmp_path}/{folder}/m.db", kept[len("file://") :]) == wanted
    moved = f"sqlite:///{tmp_path}/new/m.db"
    assert not left_behind(moved, "s3://bucket/mlartifacts")
    assert not left_behind(moved, (tmp_path / "of-a-user").as_uri())
    assert not left_behind("http://h:5000", kept)
