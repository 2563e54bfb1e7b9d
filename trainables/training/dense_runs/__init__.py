"""The shared cache of dense runs: each is trained once for all trials and studies."""
