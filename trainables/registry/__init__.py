"""Describes every method, model, task and data set, using only the standard library."""
