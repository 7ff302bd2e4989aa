"""Thick slices made thin: what lies between their centres is told by their means, which stay what they are.

A thick slice shows the mean over its thickness. Straight lines from centre to centre blur it once more, and small lesions go
under. The signal's integral along the slices is known at their borders; the derivative of a cubic spline through it has each
slice's mean [histospline: Boneva, Kendall and Stefanov, J R Stat Soc B 1971;33:1-71].
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from pipelines.brain.grid import Grid
from pipelines.types import BoolArray, FloatArray


def mean_weights(slices: int, borders: npt.ArrayLike) -> FloatArray:
    """Return how the means between neighbouring places follow from the means of slices.

    Parameters
    ----------
    slices : int
        At least two, without gaps; slice n reaches from n to n + 1.
    borders : array, shape (m + 1,)
        Places in ascending order; those beyond the slices are moved to their end.

    Returns
    -------
    float32 array, shape (m, slices)
        Zero where nothing is between two places.
    """
    places = np.clip(np.asarray(borders, dtype=np.float64), 0.0, slices)
    integral = np.concatenate([np.zeros((1, slices)), np.cumsum(np.eye(slices), axis=0)])
    along = CubicSpline(np.arange(slices + 1), integral, axis=0, bc_type="natural")(places)
    width = np.diff(places)[:, None]
    return np.asarray(np.diff(along, axis=0) / np.where(width > 1e-6, width, np.inf), dtype=np.float32)


def along_axis(weights: FloatArray, array: FloatArray, axis: int) -> FloatArray:
    """Return an array with the means of `mean_weights` in place of its slices along an axis, none below its least value."""
    mixed = np.moveaxis(np.tensordot(weights, array, axes=(1, axis)), 0, axis)
    return np.asarray(np.maximum(mixed, array.min()), dtype=np.float32)


def thinned(
    array: FloatArray, source: Grid, spacing_mm: float, inside: BoolArray | None = None
) -> tuple[FloatArray, Grid]:
    """Divide what is thicker than a spacing into slices of about that; gaps between slices count to the slices.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
    source : Grid
        Its own.
    spacing_mm : float
    inside : bool array, shape (k, j, i), optional
        What is of interest: the median there stands in place of the rest where anything is divided, so that a bright scalp
        does not ring into the brain.

    Returns
    -------
    array : float32 array
    grid : Grid
        Of the same extent.
    """
    affine, shape = source.affine.copy(), list(source.shape_kji)
    numbers = [round(own_mm / spacing_mm) for own_mm in source.spacing_mm]
    thick = [axis for axis in range(3) if numbers[axis] > 1 and shape[axis] > 1]
    if thick and inside is not None and inside.any():
        array = np.where(inside, array, np.float32(np.median(array[inside])))
    for axis in thick:
        count, parts = shape[axis], numbers[axis]
        array = along_axis(mean_weights(count, np.arange(count * parts + 1) / parts), array, axis)
        step = affine[:3, 2 - axis]
        affine[:3, 3] -= step * (0.5 - 0.5 / parts)
        affine[:3, 2 - axis] = step / parts
        shape[axis] = count * parts
    return array, Grid((shape[0], shape[1], shape[2]), affine)
