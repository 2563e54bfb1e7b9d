"""Figures of a grid of systems: curves over sparsity, and comparisons with a reference."""
