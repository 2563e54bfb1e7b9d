"""Holds the shared cache of dense runs, each trained once for all trials and studies."""
