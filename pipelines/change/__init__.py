"""Comparison of two time points of one patient: alignment, difference image, what has changed, and how far it can be told."""
