"""Holds what may vary: search spaces (Optuna, define-by-run) and presets (every default)."""
