"""Show what a study found: fronts, indicators, comparisons, plots, tables and a report.

It reads a study's record, from the study's folder or from the copy that MLflow keeps. Nothing in
this package imports torch or ray, and `analysis.statistics.pareto` needs NumPy alone.
"""
