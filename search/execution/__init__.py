"""Running a study on Ray: launches, the searcher, callbacks, checkpoints and recovery."""
