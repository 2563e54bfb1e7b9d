"""The files of a study: its folder, study.json, journal, table of trials and lock."""
