"""Read a study's record: trials, masks, terms, effort and systems over seeds."""
