"""Dense prediction tasks: a loss and its metrics stand together."""
