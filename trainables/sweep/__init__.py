"""Trains many trials on one machine without Ray: grids, processes, and what a trial left."""
