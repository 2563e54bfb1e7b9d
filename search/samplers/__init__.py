"""Decides what to try next: the samplers that draw the configurations of trials."""
