"""Compare systems over seeds, paired."""
