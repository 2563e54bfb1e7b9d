"""A digest of code changes with what Python runs, and not with what people read."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables.integrity.code_digest import digest_files, digest_import

SOURCE = '''
"""A module."""

RATE = 0.1  # per step


class Rule:
    """A rule."""

    scale: float = 2.0

    def apply(self, value, *, twice=False):
        """Scale the value."""
        if twice:
            return value * self.scale**2
        return value * self.scale
'''


@pytest.fixture(autouse=True)
def _as_a_new_process() -> Iterator[None]:
    yield
    digest_import.cache_clear()


def digest_of(folder: Path, source: str | bytes, name: str = "module.py") -> str:
    path = folder / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    digest = digest_files(folder, [path])
    path.unlink()
    return digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""', '"""Another text."""'),
        ('"""A module."""\n', ""),
        ('    """A rule."""\n', ""),
        ('"""Scale the value."""', "'''Multiply.\n\n        At length.\n        '''"),
        ("# per step", "# of learning"),
        ("RATE = 0.1", "\n\n# Words.\nRATE = (0.1)"),
        ("value, *, twice=False", "\n        value,\n        *,\n        twice=False,\n    "),
        ("    scale: float = 2.0\n", '    scale: float = 2.0\n    """How much."""\n'),
    ],
)
def test_words_and_layout_do_not_count(tmp_path: Path, old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    assert digest_of(tmp_path, SOURCE.replace(old, new)) == digest_of(tmp_path, SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 0.1", "RATE = 0.2"),
        ("RATE = 0.1", 'RATE = "0.1"'),
        ("twice=False", "twice=True"),
        ("twice=False", "twice=0"),
        ("twice=False", "twice=None"),
        ("if twice", "if not twice"),
        ("value, *, twice", "value, twice"),
        ("self.scale**2", "self.scale*2"),
        ("scale: float = 2.0", "scale: float = 2"),
        ("        return value * self.scale\n", ""),
        ("class Rule", "@final\nclass Rule"),
    ],
)
def test_what_python_runs_counts(tmp_path: Path, old: str, new: str) -> None:
    assert SOURCE.count(old) == 1
    assert digest_of(tmp_path, SOURCE.replace(old, new)) != digest_of(tmp_path, SOURCE)


def test_names_and_other_files_count(tmp_path: Path) -> None:
    assert digest_of(tmp_path, SOURCE) != digest_of(tmp_path, SOURCE, "other.py")
    text = digest_of(tmp_path, "# one", "notes.txt")
    assert text != digest_of(tmp_path, "# two", "notes.txt")


def test_what_does_not_parse_counts_as_it_is(tmp_path: Path) -> None:
    assert digest_of(tmp_path, "def") != digest_of(tmp_path, "def  # broken")
    assert digest_of(tmp_path, b"\xff") == digest_of(tmp_path, b"\xff")


@pytest.mark.parametrize(
    ("name", "edited", "counts"),
    [
        ("their_package.nets:Net", "their_package/layers.py", True),
        ("their_package.nets:Net", "their_package/deep/scales.json", True),
        ("their_package.nets:Net", "their_package/__pycache__/nets.pyc", False),
        ("their_package.nets:Net", "their_module.py", False),
        ("their_namespace.nets:Net", "their_namespace/layers.py", True),
        ("their_module:Net", "their_layers.py", True),
        ("their_module:Net", "notes.txt", False),
        ("their_module:Net", "their_package/layers.py", False),
    ],
)
def test_a_users_code_counts_with_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, edited: str, counts: bool
) -> None:
    files = (
        "their_package/__init__.py", "their_package/nets.py", "their_package/layers.py",
        "their_namespace/nets.py", "their_namespace/layers.py",
        "their_module.py", "their_layers.py",
    )  # fmt: skip
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = digest_import(name)
    assert before is not None
    (tmp_path / edited).parent.mkdir(exist_ok=True)
    (tmp_path / edited).write_text("edited = 1\n")
    assert digest_import(name) == before  # what a process has imported stays as it is
    digest_import.cache_clear()
    assert (digest_import(name) != before) == counts


def test_what_is_in_no_file_has_no_digest() -> None:
    assert digest_import("no_such_module:Net") is None
    assert digest_import("sys:Net") is None
