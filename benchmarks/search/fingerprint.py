"""What a kept result depends on: the code it was made by, so that a change runs it again."""

import ast
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
# Of what these import, `spaces`, `trainables` and other libraries do not count: a benchmark of the
# search must not train again for a new message of an error.
_OWN = ("benchmarks.search.", "search.")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(modules: Sequence[str], settings: str) -> str:
    """Of the named modules, of those that they import of the search, and of `settings`.

    Comments, docstrings and layout do not count.
    """
    digest = hashlib.blake2b(settings.encode(), digest_size=8)
    for module in sorted(_closure(tuple(modules))):
        digest.update(_code(module).encode())
    return digest.hexdigest()


@functools.cache
def pinned(*packages: str) -> str:
    """Return the lines of constraints.txt for these packages, in its order."""
    lines = (_REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if line.partition("==")[0] in packages]
    assert len(found) == len(packages), f"constraints.txt pins {found}, not all of {packages}"
    return " ".join(found)


@functools.cache
def _closure(modules: tuple[str, ...]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imports(module)
    return frozenset(found)


def _imports(module: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(_OWN):
            if _path(node.module).is_file():
                found.append(node.module)
            else:  # a folder, of which modules are imported
                found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@functools.cache
def _code(module: str) -> str:
    tree = ast.parse(_source(module))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def _source(module: str) -> str:
    return _path(module).read_text(encoding="utf-8")


def _path(module: str) -> Path:
    return _REPOSITORY / f"{module.replace('.', '/')}.py"
