"""Scores of networks and of the pipeline: metrics, results case by case, targets, and calibration by them.

Whoever answers for a network is a `Scorer`; the loop over a data set is the same for all.
"""
