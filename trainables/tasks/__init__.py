"""Holds the dense prediction tasks, each with its loss and its metrics."""
