"""Trial of a comparison on itself: known lesions are painted into the prior, and it is asked which of them it finds.

How it does on this patient's own images, of this scanner, says more than figures of other people's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.change.compare import compare
from pipelines.change.halfway import native_grid
from pipelines.comparison import Comparison, Examined, LesionChange, SelfGrade
from pipelines.phantoms.painting import drawn_lesion, normal_places, paint
from pipelines.types import Volume

COUNTS = (10, 12)
"""Least and greatest number of lesions that are painted, as far as there is room."""
SIZES_MM3 = (30.0, 300.0)
SUSPECT = 0.05
"""Lesion probability from which a place is no normal one."""

Analyse = Callable[[Volume], Examined]


def self_grade(current: Examined, prior: Examined, analyse: Analyse, seed: int) -> SelfGrade:
    """Return how many lesions that were painted into the prior are found, and how many of those found are false.

    Parameters
    ----------
    current, prior : Examined
    analyse : callable
        The networks behind both.
    seed : int
        Of places, sizes and brightness; the same gives the same answer.

    Returns
    -------
    SelfGrade
        ``painted``: lesions that show in the voxels of the prior. ``found``: those that a sure new or enlarging lesion
        touches when the painted prior is taken for the later image. ``false``: the other sure new or enlarging ones, but for
        those that it has without any paint: they stand in the report of the comparison, as resolved or smaller. All 0
        where the two can't be compared, or where there is no room for a lesion.
    """
    volume, truth = painted_prior(prior, seed)
    numbers = np.unique(truth[truth > 0])
    if not numbers.size:
        return SelfGrade(0, 0, 0)
    without = _compared(prior, current)
    if without.not_compared:
        return SelfGrade(0, 0, 0)
    result = _compared(analyse(volume), current)
    if result.not_compared or result.labels is None:
        return SelfGrade(int(numbers.size), 0, 0)
    found: set[int] = set()
    false = 0
    for change in _grown(result):
        region = _widened(result.labels == change.number)
        touched = {int(number) for number in np.unique(truth[region]) if number}
        found |= touched
        if not touched and not _stands(region, without):
            false += 1
    return SelfGrade(int(numbers.size), len(found), false)


def painted_prior(prior: Examined, seed: int) -> tuple[Volume, npt.NDArray[np.int32]]:
    """Return the prior with lesions painted in at normal places, and the number of the lesion in its voxels.

    A lesion that fills half of no voxel does not count as painted.
    """
    rng = np.random.default_rng(seed)
    grid = native_grid(prior)
    array = np.nan_to_num(prior.volume.array)
    count = int(rng.integers(COUNTS[0], COUNTS[1] + 1))
    suspect = prior.probability > SUSPECT
    places = normal_places(array, prior.brain, suspect, grid, count, rng)
    sizes = np.exp(rng.uniform(np.log(SIZES_MM3[0]), np.log(SIZES_MM3[1]), len(places)))
    lesions = [drawn_lesion(place, float(size), rng) for place, size in zip(places, sizes, strict=True)]
    painted = paint(array, prior.brain, grid, lesions)
    return replace(prior.volume, array=painted.array), painted.labels


def _compared(current: Examined, prior: Examined) -> Comparison:
    return compare(current, prior, lambda _stage, _seconds: None)


def _grown(result: Comparison) -> Sequence[LesionChange]:
    return [one for one in result.changes if one.change in ("new", "enlarging") and not one.possible]


def _widened(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a region with the voxels around it: what is found may lie beside what was painted by as much."""
    return np.asarray(ndimage.binary_dilation(region, np.ones((3, 3, 3), dtype=bool)))


def _stands(region: npt.NDArray[np.bool_], without: Comparison) -> bool:
    """Tell whether a comparison without paint has a change there; its grid is the same, that of the prior."""
    return without.labels is not None and bool((without.labels[region] > 0).any())
