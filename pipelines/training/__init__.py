"""Training and evaluation of the FLAIR networks, and the synthetic cases that they learn from.

`commands` holds what the command line (`cli`) calls; the rest is anatomy, priors, contrast, pools, losses, loops and metrics.
"""
