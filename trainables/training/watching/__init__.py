"""Follows a run from outside: its reports, its progress on the screen, and hangs."""
