"""Write a command for a study as somebody in this folder has to type it."""

from trainables.as_typed import DEFAULT_STORAGE, as_typed
from trainables.as_typed import study_command as command_line

__all__ = ["DEFAULT_STORAGE", "as_typed", "command_line"]
