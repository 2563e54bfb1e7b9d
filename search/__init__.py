"""Turns a recipe into trials: recipes, study, sampler, tracking, record."""
