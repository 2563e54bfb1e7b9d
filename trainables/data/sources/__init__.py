"""Readers of raw data sets: one frame at a time, in the layouts people have on disk."""
