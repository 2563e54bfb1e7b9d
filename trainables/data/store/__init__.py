"""Holds the columnar store, one memory-mapped Arrow file per split, and the conversion to it."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `Split` on first use, so that importing this package loads no Arrow."""
    if name == "Split":
        from trainables.data.store.split_file import Split

        return Split
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
