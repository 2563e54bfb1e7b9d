"""Holds the sparsity methods, one file per family of rules from scores to masks."""
