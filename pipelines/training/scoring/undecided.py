"""The band of probabilities within which a network of classes counts as undecided, fitted on cases not learnt from.

[ours] Outside of it, on either side, at least `SHARE` of the cases were right, and so many of them that the lower end of the
95 % Wilson interval says so too: 35 where all are right. A side without so many cases stays undecided as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

SHARE: Final = 0.9
"""Of the cases outside of the band that name the true class."""


def fit_band(of_ms: npt.ArrayLike, is_ms: Sequence[bool]) -> tuple[float, float]:
    """Return the narrowest band (low, high) of the probability of MS that holds the doubtful cases.

    Parameters
    ----------
    of_ms : float array, shape (n,)
        The calibrated probability of MS, in [0, 1].
    is_ms : sequence of bool, length n
        True for a case of MS, False for one of NMOSD.

    Returns
    -------
    tuple of float
        low <= 0.5 <= high; 0.0 and 1.0 where no case may be decided.
    """
    share, truth = np.asarray(of_ms, dtype=np.float64), np.asarray(is_ms, dtype=bool)
    return 1.0 - _upper_edge(1.0 - share, ~truth), _upper_edge(share, truth)


def card_entries(of_ms: npt.ArrayLike, is_ms: Sequence[bool], origins: str) -> dict[str, Any]:
    """Return what a card says of the band: its edges, and on how many cases of what kind it was fitted and held."""
    share, truth = np.asarray(of_ms, dtype=np.float64), np.asarray(is_ms, dtype=bool)
    low, high = fit_band(share, is_ms)
    says_ms, says_nmosd = share > high, share < low
    return {
        "undecided": [low, high],
        "undecided_on": {
            "share": SHARE,
            "cases": len(share),
            "origins": origins,
            "decided": int(says_ms.sum() + says_nmosd.sum()),
            "right": int((says_ms & truth).sum() + (says_nmosd & ~truth).sum()),
        },
    }


def _upper_edge(share: npt.NDArray[np.float64], is_right: npt.NDArray[np.bool_]) -> float:
    """Return the least probability, from 0.5 on, above which enough cases are right; 1.0 without one."""
    edges = np.unique(np.append(share[share >= 0.5], 0.5))
    for edge in edges:
        above = is_right[share > edge]
        if len(above) == 0:
            break
        if binomtest(int(above.sum()), len(above)).proportion_ci(method="wilson").low >= SHARE:
            return float(edge)
    return 1.0
