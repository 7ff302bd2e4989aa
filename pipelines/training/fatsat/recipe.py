"""Sizes of a training of the ensemble, where none are asked for."""

EPOCHS = 200
"""Of each member, at most."""
MEMBERS = 16
SERIES = 600
"""Phantoms that are made."""
