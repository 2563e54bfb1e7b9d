"""Checksums in files of our own: a bit that has flipped is found, and not taken for a value.

Files and lines without one, of older releases or of other programs, are read as they are.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError
from trainables.terminal.answers import finite

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = "crc32"
_SEAL = f',"{_NAME}":'.encode()


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object with its checksum."""
    return {**values, _NAME: _of(values)}


def read_sealed(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, without its checksum.

    Raises `UserError` where it is damaged, and OSError where it cannot be read.
    """
    try:
        values = _object(path.read_bytes())
        found = values.pop(_NAME, None)
        if found is not None and found != _of(values):
            raise ValueError(f"its {_NAME} is {_of(values)}, not {found} as when it was written")
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{str(path)!r} must hold one JSON object as it was written, got a damaged file "
            f"({error}); restore it from a copy"
        ) from None
    return values


def _object(text: bytes) -> dict[str, Any]:
    """Return the object of a JSON text; TypeError for another value, such as a list of pairs."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"it holds {json.dumps(value)[:40]}")
    return value


def sealed_line(values: Mapping[str, Any]) -> bytes:
    """Return the JSON object as one line with its checksum; it must have a member."""
    body = json.dumps(values, separators=(",", ":")).encode()[:-1]
    return b"%s%s%d}\n" % (body, _SEAL, zlib.crc32(body))


def read_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line, without its checksum; ValueError if damaged."""
    body, seal, found = line.rstrip(b"\n").rpartition(_SEAL)
    if seal and found != b"%d}" % zlib.crc32(body):
        raise ValueError(f"its {_NAME} is another one than when it was written")
    try:
        values = _object(line)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    values.pop(_NAME, None)
    return values


def is_unfinished(rest: bytes) -> bool:
    """Whether what follows the last newline of a file is a line that was cut short.

    Otherwise it is a whole one, the newline of which is damaged.
    """
    body, seal, found = rest[:-1].rpartition(_SEAL)
    return not seal or found != b"%d}" % zlib.crc32(body)


def write_table(path: Path, table: "pa.Table") -> None:
    """Write a Parquet file with a checksum of its content, and one of every page."""
    import pyarrow.parquet as pq

    metadata = {**(table.schema.metadata or {}), _NAME: str(_of_table(table))}
    pq.write_table(table.replace_schema_metadata(metadata), path, write_page_checksum=True)


def read_table(path: Path) -> "pa.Table":
    """Read a Parquet file; `UserError` where it is damaged, OSError where it is absent."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            # Without `pq.read_table`, which starts threads of Arrow even where it is to use one:
            # given a Python file, they may abort the exit of Python
            # (https://github.com/apache/arrow/issues/34314).
            reader = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
            table = reader.read(use_threads=False)
        found = (table.schema.metadata or {}).get(_NAME.encode())
        if found is not None and found != b"%d" % _of_table(table):
            raise ValueError(f"its {_NAME} is another one than when it was written")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, OverflowError, MemoryError, pa.ArrowException) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{str(path)!r} must be a Parquet file as it was written, got a damaged file "
            f"({first}); `search sync` writes a study's table anew, else restore it from a copy"
        ) from None
    return table


def _of(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(finite(values), sort_keys=True).encode())


def _of_table(table: "pa.Table") -> int:
    found = 0
    for name, column in zip(table.schema, table.columns, strict=True):
        found = zlib.crc32(f"{name.name} {name.type} {column.to_pylist()!r}".encode(), found)
    return found
