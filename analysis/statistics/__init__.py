"""Compute numbers about trials: fronts, indicators, comparisons, importance, agreement."""
