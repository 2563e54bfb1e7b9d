"""Writes counts with their nouns."""


def counted(count: int, noun: str) -> str:
    """Return "1 training", "2 trainings"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
