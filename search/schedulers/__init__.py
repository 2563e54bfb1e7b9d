"""Decides what to stop early: ParetoASHA and its rungs, usable by any Ray Tune experiment."""
