"""The columnar store: one Arrow file per split, memory-mapped, and the conversion into it."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Give out `Split` on first use: importing the room alone loads no Arrow."""
    if name == "Split":
        from trainables.data.store.split_file import Split

        return Split
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
