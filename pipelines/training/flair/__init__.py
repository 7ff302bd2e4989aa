"""Training, scores and comparison of the networks on FLAIR: lesion masks, MS against NMOSD, or both.

`training.train` is the way of a training through the rest; `trainable` is what the command line asks.
"""
