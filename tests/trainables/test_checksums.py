"""One flipped bit is named, or changes nothing: never another value, never a traceback."""

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.errors import UserError
from trainables.integrity.checksums import (
    is_unfinished,
    read_line,
    read_sealed,
    read_table,
    sealed,
    sealed_line,
    write_table,
)

VALUES = {"name": "naïve", "steps": [1, 2.5, -3e-7], "nested": {"a": None, "b": True}}


def flipped(data: bytes, bits: list[int]) -> Iterator[bytes]:
    """The data with each of the bits flipped in its turn."""
    for bit in bits:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def some_bits(data: bytes, count: int) -> list[int]:
    return random.Random(0).sample(range(8 * len(data)), count)


def outcome(read: Callable[[], Any], damage: type[Exception]) -> Any:
    with contextlib.suppress(damage):
        return read()
    return None


def test_every_bit_of_an_object_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    data = json.dumps(sealed(VALUES), indent=2).encode()
    path.write_bytes(data)
    assert read_sealed(path) == VALUES
    named = 0
    for changed in flipped(data, list(range(8 * len(data)))):
        path.write_bytes(changed)
        found = outcome(lambda: read_sealed(path), UserError)
        named += found is None
        # A name of the checksum that is damaged leaves the values as they were.
        assert found is None or {k: found.get(k) for k in VALUES} == VALUES
    assert named > 0.8 * 8 * len(data)
    path.write_bytes(data.replace(b"2.5", b"2.6"))
    with pytest.raises(UserError, match="must hold one JSON object as it was written") as error:
        read_sealed(path)
    assert str(path) in str(error.value)


def test_every_bit_of_a_line() -> None:
    data = sealed_line(VALUES)
    assert read_line(data) == VALUES
    for changed in flipped(data[:-1], list(range(8 * (len(data) - 1)))):
        found = outcome(lambda line=changed: read_line(line + b"\n"), ValueError)  # type: ignore[misc]
        assert found is None or {k: found.get(k) for k in VALUES} == VALUES
    # Nor does a newline that flipped look like a line that was cut short.
    assert not any(
        is_unfinished(c) for c in flipped(data, list(range(8 * len(data) - 8, 8 * len(data))))
    )
    assert all(is_unfinished(data[:end]) for end in range(1, len(data) - 1))


def test_bits_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table(
        {"trial": ["s-0", "s-1", "s-2"], "number": [0, 1, 2], "val/x": [0.5, None, 2.0]}
    )
    write_table(path, table)
    assert read_table(path).equals(table)
    assert pq.read_table(path).equals(table)  # with any reader
    data = path.read_bytes()
    named = 0
    for changed in flipped(data, some_bits(data, 400)):
        path.write_bytes(changed)
        found = outcome(lambda: read_table(path), UserError)
        named += found is None
        assert found is None or found.equals(table)
    assert named > 100
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none")


def test_a_table_is_read_without_threads_that_may_abort_the_exit(tmp_path: Path) -> None:
    write_table(tmp_path / "t", pa.table({"a": [1, 2]}))
    code = (
        "import os, sys, pyarrow.parquet; from pathlib import Path\n"
        "from trainables.integrity.checksums import read_table\n"
        "before = os.listdir('/proc/self/task')\n"
        "read_table(Path(sys.argv[1]))\n"
        "assert os.listdir('/proc/self/task') == before"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "t")], check=True)


def test_a_file_without_a_checksum_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(json.dumps(VALUES))
    assert read_sealed(path) == VALUES
    assert read_line(json.dumps(VALUES).encode()) == VALUES
    pq.write_table(pa.table({"a": [1]}), path)
    assert read_table(path).to_pylist() == [{"a": 1}]


@pytest.mark.parametrize(
    "content",
    [b"[1]", b"[]", b'[["a", 1]]', b'""', b"7", b"null", b"", b"\xff", b"[" * 100_000],
)
def test_what_is_no_object_is_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UserError, match="must hold one JSON object"):
        read_sealed(path)
    with pytest.raises(UserError, match=r"must be a Parquet file .*`search sync` writes"):
        read_table(path)
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        read_line(content + b"\n")


@given(
    values=st.dictionaries(
        st.text(max_size=9).filter(lambda name: name != "crc32"),
        st.recursive(st.floats(allow_subnormal=False) | st.text() | st.none(), st.lists),
        min_size=1,
    )
)
def test_whatever_is_written_is_read(values: dict[str, Any]) -> None:
    assert repr(read_line(sealed_line(values))) == repr(values)
