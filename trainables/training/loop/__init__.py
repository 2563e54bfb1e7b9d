"""Holds the training loop: its step, its phases, the losses and the optimiser."""
