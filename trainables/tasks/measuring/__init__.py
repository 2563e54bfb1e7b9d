"""Compares predictions with the truth: at its size, as classes or values, over a whole split."""
