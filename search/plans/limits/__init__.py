"""Says how far a study may go, and what its models have to meet."""
