"""Ray itself: a local one or a cluster, its nodes in shares for trials, and its end."""
