"""Numbers about trials: fronts, indicators, comparisons, importance, agreement among tasks."""
