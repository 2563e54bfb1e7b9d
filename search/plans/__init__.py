"""Says what a study is before anything runs: recipe, budget, constraints, grid, and the plan."""
