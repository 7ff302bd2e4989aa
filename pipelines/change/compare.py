"""Comparison of two examinations of one patient.

The two are put into an order that does not depend on which is the later one; all that both share is computed in it, and the
rule is asked in both directions. So swapping the studies swaps the answers, exactly, and a study against itself has none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from pipelines.brain.grid import resample
from pipelines.change.alignment import register
from pipelines.change.difference import Difference, difference
from pipelines.change.evidence import Scan
from pipelines.change.halfway import Halfway, OnCommonGrid, halfway, native_grid, on_common_grid
from pipelines.change.residual import refusal
from pipelines.change.rule import LIMITS, Limits, grown
from pipelines.change.tracing import changes_of, matches_of
from pipelines.change.unchanged import unchanged_of
from pipelines.comparability import acquisition_of, compare_acquisitions
from pipelines.comparison import Comparability, Comparison, Examined
from pipelines.stages import Run
from pipelines.types import Affine, FloatArray, ModelCard, Progress


@dataclass(frozen=True)
class Pair:
    """Two examinations on their common grid, in an order that does not depend on time.

    Parameters
    ----------
    first_to_second : float64 array, shape (4, 4)
        Patient positions of the first, mm, LPS, to those of the second.
    common : Halfway
    first, second : OnCommonGrid
    difference : Difference
        Second less first.
    refused : str
        Why they can't be compared, in one line; empty where they can.
    """

    first_to_second: Affine
    common: Halfway
    first: OnCommonGrid
    second: OnCommonGrid
    difference: Difference
    refused: str


def compare(current: Examined, prior: Examined, progress: Progress) -> Comparison:
    """Compare an examination with an earlier one.

    Parameters
    ----------
    current, prior : Examined
        By the same networks and settings.
    progress : callable
        Called as ``progress(stage, seconds)`` after each stage.

    Returns
    -------
    Comparison
        The same for the same input; with the roles swapped what was new is resolved, and what was enlarging is smaller.
    """
    run = Run(progress)
    comparability = compare_acquisitions(acquisition_of(current.volume), acquisition_of(prior.volume))
    if not (current.brain.any() and prior.brain.any()):
        return _refused(comparability, "one of the images shows no brain", run)
    pair, current_is_second = pair_of(current, prior, comparability, run)
    if pair.refused:
        return _refused(comparability, pair.refused, run)
    with run.stage("changes"):
        result = judged(current, prior, pair, comparability, current_is_second=current_is_second)
    return replace(result, timings_s=run.timings_s)


def pair_of(current: Examined, prior: Examined, comparability: Comparability, run: Run) -> tuple[Pair, bool]:
    """Return two examinations as a pair, and whether the current one is its second."""
    swapped = _key(prior) < _key(current)
    first, second = (prior, current) if swapped else (current, prior)
    return paired(first, second, run, scaled=_scanner_differs(comparability)), swapped


def paired(first: Examined, second: Examined, run: Run, *, scaled: bool) -> Pair:
    """Return two examinations on their common grid."""
    with run.stage("alignment"):
        same = _is_same(first, second)
        first_to_second = np.eye(4) if same else register(first, second, scaled=scaled)
    with run.stage("difference"):
        common = halfway(first, second, first_to_second)
        one = on_common_grid(first, common.grid, common.to_first)
        other = on_common_grid(second, common.grid, common.to_second)
        return Pair(
            first_to_second,
            common,
            one,
            other,
            difference(one, other, common.grid),
            refusal(one, other, common.grid),
        )


def seen_from(pair: Pair, *, current_is_second: bool) -> tuple[Scan, Scan, FloatArray]:
    """Return the current and the prior scan of a pair, and the smoothed difference, current less prior."""
    one, other = (
        Scan(of.probability, image)
        for of, image in ((pair.first, pair.difference.first), (pair.second, pair.difference.second))
    )
    if current_is_second:
        return other, one, pair.difference.smooth
    return one, other, -pair.difference.smooth


def judged(
    current: Examined,
    prior: Examined,
    pair: Pair,
    comparability: Comparability,
    *,
    current_is_second: bool,
    limits: Limits = LIMITS,
) -> Comparison:
    """Ask the rule in both directions and describe what it finds on the current image."""
    now, then, smooth = seen_from(pair, current_is_second=current_is_second)
    grid, noise = pair.common.grid, pair.difference.noise
    growth = grown(now, then, smooth, noise, grid.spacing_mm, limits)
    shrinkage = grown(then, now, -smooth, noise, grid.spacing_mm, limits)
    to_current, to_prior = pair.common.to_first, pair.common.to_second
    current_to_prior = pair.first_to_second
    if current_is_second:
        to_current, to_prior = to_prior, to_current
        current_to_prior = np.asarray(np.linalg.inv(current_to_prior), dtype=np.float64)
    traced = changes_of(
        growth, shrinkage, current, prior, grid, to_current, to_prior, comparability.grade, limits
    )
    shown = resample(
        np.nan_to_num(prior.volume.array),
        native_grid(prior),
        native_grid(current),
        transform=current_to_prior,
    )
    matches = matches_of(current, prior, grid, to_current, to_prior)
    return Comparison(
        comparability=comparability,
        changes=traced.changes,
        labels=traced.labels,
        matches=matches,
        unchanged=unchanged_of(current, prior, traced.changes, matches),
        volume_mm3=_volume_mm3(current),
        prior_volume_mm3=_volume_mm3(prior),
        prior_on_current=shown,
        current_to_prior=current_to_prior,
        models=_models(current, prior),
    )


def _refused(comparability: Comparability, reason: str, run: Run) -> Comparison:
    return Comparison(
        comparability=replace(comparability, grade="D", reasons=(reason, *comparability.reasons)),
        not_compared=reason,
        timings_s=run.timings_s,
    )


def _scanner_differs(comparability: Comparability) -> bool:
    names = ("manufacturer", "scanner model", "field strength")
    return any(row.differs for row in comparability.table if row.name in names)


def _is_same(first: Examined, second: Examined) -> bool:
    return np.array_equal(first.volume.affine, second.volume.affine) and np.array_equal(
        first.volume.array, second.volume.array
    )


def _key(examined: Examined) -> bytes:
    """Return what orders two examinations: a digest of the voxels and of what was found in them."""
    digest = hashlib.sha256()
    arrays = (examined.volume.array, examined.volume.affine, examined.brain, examined.probability)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _volume_mm3(examined: Examined) -> float:
    return float(np.count_nonzero(examined.labels) * examined.volume.voxel_volume_mm3)


def _models(current: Examined, prior: Examined) -> tuple[ModelCard, ...]:
    return tuple(dict.fromkeys((*current.models, *prior.models)))
