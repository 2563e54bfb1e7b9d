"""The sparsity methods, one file per family: rules from scores and old masks to new masks."""
