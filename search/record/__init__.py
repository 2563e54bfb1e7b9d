"""The truth about a study: what was handed out, reported and ended, and where that is kept."""
