"""Decides what to try next: the samplers that draw the configurations of trials.

A study draws by `trial_sampler`; `optuna_sampler` is for users of Optuna without a study of ours.
"""
