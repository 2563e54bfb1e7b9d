"""`python -m benchmarks.search`: our multi-objective search against its peers, at equal epochs."""
