"""Preparation that any brain image needs before its model: grids, brain mask, bias field, MNI space.

Nothing here knows a disease or a sequence.
"""
