"""Saves and restores a run: checkpoint folders, their manifests, and the best weights so far."""
