"""The science: what one trial trains.

Nothing in this package imports ray, optuna or mlflow, `trainables.tune` excepted.
"""

__version__ = "0.1.0"
