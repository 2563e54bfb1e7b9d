"""The searches that are compared: ours, its peers, and ours with one part changed."""
