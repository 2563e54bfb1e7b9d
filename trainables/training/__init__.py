"""Trains one trial: optimiser, loop, evaluation, checkpoints."""
