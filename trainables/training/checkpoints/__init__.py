"""Saving and restoring a run: checkpoint folders, their manifests, and the best weights so far."""
