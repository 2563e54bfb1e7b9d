"""One training run: optimiser, loop, evaluation, checkpoints."""
