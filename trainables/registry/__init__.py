"""What exists: one description per method, model, task and data set; standard library only."""
