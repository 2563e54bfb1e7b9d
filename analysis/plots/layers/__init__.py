"""Draw what happens in each layer: density, and agreement among tasks."""
