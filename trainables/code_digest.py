"""Digests of code: equal as long as Python would run the same, whatever the comments say.

Where results are kept and found again (dense runs, generated frames), the code that made them is
part of their name. Comments, docstrings and layout of `.py` files do not count.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path


def digest_files(folder: Path, paths: Iterable[Path]) -> str:
    """Return the digest of names and contents of `paths` in `folder`, wherever it lies.

    Folders, hidden files and what Python makes of the others are left out.
    """
    lines = []
    for path in sorted(paths):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        with contextlib.suppress(OSError):  # a folder, or a file that has gone meanwhile
            content = path.read_bytes()
            code = _code(content) if path.suffix == ".py" else content
            lines.append(f"{'/'.join(parts)}\0{digest(code)}\n")
    return digest("".join(lines).encode())


@functools.cache
def digest_import(name: str) -> str | None:
    """Return the digest of the code behind an import path; None if there are no files of it.

    name: `package.module:attribute`. All files of its top-level package count, or for a module
    that is in none, the `.py` files beside it: what it imports from there matters too. A process
    reads them once, since what it has imported stays as it is.
    """
    spec = None
    with contextlib.suppress(ImportError, ValueError):  # whoever imports it says it better
        spec = importlib.util.find_spec(name.partition(":")[0].partition(".")[0])
    if spec is not None and spec.submodule_search_locations is not None:
        folders = [Path(place) for place in spec.submodule_search_locations]
        return ",".join(digest_files(folder, folder.rglob("*")) for folder in folders)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    folder = Path(spec.origin).parent
    return digest_files(folder, folder.glob("*.py"))


def digest(content: bytes) -> str:
    """Return 32 hexadecimal digits that stand for `content`."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _code(source: bytes) -> bytes:
    """Return what Python would run of a module; the text itself where it does not parse."""
    try:
        return repr(_plain(ast.parse(source))).encode()
    except (SyntaxError, ValueError):
        return source


def _plain(node: object) -> object:
    """Return a syntax tree as nested tuples without positions and without bare strings.

    A bare string, such as a docstring, has no effect. Fields that are empty are left out, because
    versions of Python differ in which empty fields they have.
    """
    if isinstance(node, list):
        return tuple(_plain(member) for member in node if not _is_bare_string(member))
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, _plain(value)) for name, value in ast.iter_fields(node)]
    return (type(node).__name__, *(field for field in fields if field[1] not in (None, ())))


def _is_bare_string(node: object) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
