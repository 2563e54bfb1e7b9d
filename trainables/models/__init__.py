"""Networks: a shared trunk, one head per task."""
