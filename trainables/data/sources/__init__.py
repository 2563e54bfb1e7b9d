"""Reads raw data sets, one frame at a time, in the layouts that people have on disk."""
