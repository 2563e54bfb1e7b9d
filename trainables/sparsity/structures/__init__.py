"""Holds what is kept or pruned together: single weights, N of M consecutive ones, or channels."""
