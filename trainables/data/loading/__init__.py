"""Loads batches: frames of a split, fetched, decoded and augmented on the device."""
