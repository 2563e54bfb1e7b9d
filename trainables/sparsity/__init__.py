"""Holds masks, scores, allocation, schedules, and the rules that turn scores into masks."""
