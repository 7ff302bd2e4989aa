"""Training and evaluation of the FLAIR networks, and the synthetic cases that they learn from.

`commands` holds what the command line calls; the rest is anatomy, priors, contrast, pools, losses, loops and metrics.
"""

from pipelines.training.commands import evaluate, phantom_cases, train

__all__ = ["evaluate", "phantom_cases", "train"]
