"""Notices what has changed: bits in files of our own, and code that results depend on."""
