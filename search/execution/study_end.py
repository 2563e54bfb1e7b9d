"""How a launch of a study ended."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyEnd:
    """What a launch left; texts are empty where there is nothing to say.

    tracking_uri: without a password. idle: why a budget was left unused.
    reason: the most frequent one among trials that are not complete. unwritten: what MLflow lacks.
    report_problem: why there is no report or table. table: of a grid's systems.
    plateau: where the study ended before its budget did, why.
    confirmed: how many confirmations ended, in words. confirming: whether they are what remains.
    unconfirmed: whether a model of the front has fewer fresh seeds than a choice needs.
    choices: once they have ended, what plain conditions take now, and what they took before.
    """

    directory: Path
    tracking_uri: str
    finished: int
    complete: int
    failed: int
    remaining: int
    front: int
    idle: str
    reason: str
    unwritten: str
    report_problem: str
    unconfirmed: bool
    table: str = ""
    plateau: str = ""
    confirmed: str = ""
    confirming: bool = False
    choices: tuple[str, ...] = ()
