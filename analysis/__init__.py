"""What came out: fronts, indicators, plots and the report of a finished or running study.

Reads MLflow or a study's own record. Nothing in this package imports torch or ray, and
`analysis.statistics.pareto` needs NumPy alone.
"""
