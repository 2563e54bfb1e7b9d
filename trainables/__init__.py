"""Holds the science: what one trial trains.

Nothing in this package imports ray, optuna or mlflow, except `trainables.tune`, which imports ray.
"""

__version__ = "0.1.0"
