"""Holds the networks: shared or mixed trunks and one head per task."""
