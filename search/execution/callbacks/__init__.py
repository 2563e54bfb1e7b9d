"""Ray Tune's callbacks of a launch: its events, its checkpoints, and trials whose process died."""
