"""Measured ratios: what masks, votes, updates and the store cost beside doing without them."""
