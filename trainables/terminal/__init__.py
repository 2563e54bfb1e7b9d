"""Holds what the command lines share: how they begin, fail, print and end."""
