"""Computes digests of code that do not depend on comments, docstrings and layout.

Results that are kept for reuse (dense runs, generated frames) carry the digest of the code that
made them in their name.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import subprocess
from collections.abc import Iterable
from pathlib import Path


def digest_files(folder: Path, paths: Iterable[Path]) -> str:
    """Return the digest of names and contents of `paths`, relative to `folder`.

    Folders, hidden files and `__pycache__` are left out.
    """
    lines = []
    for path in sorted(paths):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        with contextlib.suppress(OSError):  # a folder, or a file deleted meanwhile
            content = path.read_bytes()
            code = _code(content) if path.suffix == ".py" else content
            lines.append(f"{'/'.join(parts)}\0{digest(code)}\n")
    return digest("".join(lines).encode())


@functools.cache
def digest_import(name: str) -> str | None:
    """Return the digest of the code behind an import path; None if it has no files.

    name: `package.module:attribute`. All files of its top-level package count. For a module
    outside a package, all `.py` files beside it count, because it may import them. A process
    reads the files once, because code that it has imported does not change.
    """
    spec = None
    with contextlib.suppress(ImportError, ValueError):  # the later import reports it better
        spec = importlib.util.find_spec(name.partition(":")[0].partition(".")[0])
    if spec is not None and spec.submodule_search_locations is not None:
        folders = [Path(place) for place in spec.submodule_search_locations]
        return ",".join(digest_files(folder, folder.rglob("*")) for folder in folders)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    folder = Path(spec.origin).parent
    return digest_files(folder, folder.glob("*.py"))


def digest(content: bytes) -> str:
    """Return a hash of `content` as 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _code(source: bytes) -> bytes:
    """Return the part of a module that Python runs; the text itself if it does not parse."""
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


def code_commit() -> str | None:
    """Return the commit of the code, "…-changed" with changes on top; None outside a clone."""
    root = Path(__file__).resolve().parents[2]
    git = ["git", "-C", str(root)]
    try:
        # A folder inside somebody else's repository is no clone of this one.
        if not (root / ".git").exists():
            return None
        told = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    commit = told.stdout.strip()
    return (commit + ("-changed" if changed.returncode == 1 else "")) or None
