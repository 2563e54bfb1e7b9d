"""Decides what to stop early, by several objectives at once.

A study stops by `study_scheduler`. `pareto_asha` is for any Ray Tune experiment, and
`optuna_pruner` for users of Optuna without Ray.
"""
