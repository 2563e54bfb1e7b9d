"""What a model costs: a file for each kind of cost metric."""
