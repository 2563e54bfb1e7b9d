"""Holds which weights are kept, which may be pruned, and what that does to the network."""
