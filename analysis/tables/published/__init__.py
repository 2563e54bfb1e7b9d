"""Hold the papers' numbers as data; README.md tells where they come from."""
