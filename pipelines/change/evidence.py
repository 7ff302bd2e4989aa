"""Evidence that a place which has become brighter is a lesion's growth, put together to one likelihood.

No single limit tells growth from what noise, partial volume and a shaky mask do: the rim of a lesion that has grown is 0.05 to
0.15 brighter, as the rim of an unchanged one may be in another session. Together they do: how far the smoothed difference
stands out of its noise, how much lesion the networks see more than before, and whether the place was bright already. Two
logistic regressions (L2, C = 1, standardised) weigh them, one for places where the earlier mask has nothing near and one for
places at an old lesion. They were fitted on 1,112 cores of 8 mm3 and more of 23 synthetic pairs of eight heads and of eleven
real scans against moved copies of themselves, 82 of them true changes, and on no real pair. `dicom-node models calibrate
change` fits them anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.types import BoolArray, FloatArray

REACH_MM = 4.0
"""So far from a core lesions are measured: a confluent one grows at one end."""
MASK = 0.5
"""Probability from which a voxel belongs to a lesion."""
LEAST_NOISE, LEAST_BRIGHTNESS = 0.005, 0.02
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
Box = tuple[slice, ...]
SpacingMm = tuple[float, float, float]


@dataclass(frozen=True)
class Scan:
    """One scan on the common grid, shape (k, j, i).

    Parameters
    ----------
    probability : float32 array
        Of a lesion.
    image : float32 array
        Over normal white matter.
    """

    probability: FloatArray
    image: FloatArray


@dataclass(frozen=True)
class Evidence:
    """Findings on one core, of the images and of the networks.

    Parameters
    ----------
    volume_mm3 : float
        Of the core.
    difference : float
        Greatest smoothed one.
    signal : float
        The same over its noise.
    share : float
        Of what the core is brighter than white matter now, the share that it was not before.
    gained_mm3 : float
        Rise of the summed probability, in the core and within a voxel of it.
    now_mm3, then_mm3 : float
        Summed probability within `REACH_MM` of the core, later and earlier.
    excess : float
        Median difference of the core to the brightest that was within a voxel of it: alignment may err by as much.
    rise : float
        Mean rise of the probability in the core.
    at_old : float
        Share of the core that the earlier mask covers or adjoins.
    """

    volume_mm3: float
    difference: float
    signal: float
    share: float
    gained_mm3: float
    now_mm3: float
    then_mm3: float
    excess: float
    rise: float
    at_old: float

    def values(self) -> npt.NDArray[np.float64]:
        """Return what the regressions weigh, in the order of their weights."""
        return np.array(
            [
                np.log(self.signal),
                np.log(self.volume_mm3),
                np.log(max(self.gained_mm3, 3.0)),
                np.log((self.now_mm3 + 10.0) / (self.then_mm3 + 10.0)),
                np.clip(self.excess, -0.3, 0.3),
                self.rise,
                self.at_old,
            ]
        )


@dataclass(frozen=True)
class Regression:
    """Logistic regression over the values of an `Evidence`."""

    intercept: float
    weights: tuple[float, float, float, float, float, float, float]

    def likelihood(self, evidence: Evidence) -> float:
        """Return how likely a core is growth, in [0, 1]."""
        total = self.intercept + float(np.dot(self.weights, evidence.values()))
        return float(1 / (1 + np.exp(-np.clip(total, -50, 50))))


APART = Regression(-11.937, (2.788, 0.131, 0.0, 0.0, 4.63, 10.754, 0.0))
"""Of cores that the earlier mask neither covers nor adjoins."""
AT_OLD = Regression(-17.244, (3.789, -0.489, 0.781, 2.165, 7.326, 7.277, 7.322))
"""Of cores at an old lesion."""


def likelihood(evidence: Evidence) -> float:
    """Return how likely a core is growth, in [0, 1]."""
    return (AT_OLD if evidence.at_old > 0 else APART).likelihood(evidence)


def evidence_of(
    inside: BoolArray,
    box: Box,
    later: Scan,
    earlier: Scan,
    smooth: FloatArray,
    noise: float,
    near_earlier: BoolArray,
    spacing_mm: SpacingMm,
) -> Evidence:
    """Return the evidence on one core.

    Parameters
    ----------
    inside : bool array
        The core, in its box.
    smooth : float32 array, shape (k, j, i)
        Smoothed difference, later less earlier.
    noise : float
        Its SD in normal tissue.
    near_earlier : bool array, shape (k, j, i)
        The earlier mask, dilated by a voxel.
    """
    voxel_mm3 = float(np.prod(spacing_mm))
    wide, at = with_margin(box, later.image.shape, spacing_mm, REACH_MM)
    core = np.zeros([s.stop - s.start for s in wide], dtype=bool)
    core[at] = inside
    reached = ndimage.distance_transform_edt(~core, sampling=spacing_mm) <= REACH_MM
    around = ndimage.binary_dilation(core, _NEIGHBOURS)
    now, then = later.probability[wide], earlier.probability[wide]
    brightest = ndimage.maximum_filter(earlier.image[wide], size=3)
    difference = float(smooth[box][inside].max())
    bright, before = (float(np.median(of.image[box][inside])) for of in (later, earlier))
    return Evidence(
        volume_mm3=float(np.count_nonzero(inside)) * voxel_mm3,
        difference=difference,
        signal=difference / max(noise, LEAST_NOISE),
        share=(bright - before) / max(bright - 1, LEAST_BRIGHTNESS),
        gained_mm3=float((now - then)[around].sum(dtype=np.float64)) * voxel_mm3,
        now_mm3=float(now[reached].sum(dtype=np.float64)) * voxel_mm3,
        then_mm3=float(then[reached].sum(dtype=np.float64)) * voxel_mm3,
        excess=float(np.median((later.image[wide] - brightest)[core])),
        rise=float((now - then)[core].mean(dtype=np.float64)),
        at_old=float(near_earlier[box][inside].mean()),
    )


def with_margin(box: Box, shape: tuple[int, ...], spacing_mm: SpacingMm, margin_mm: float) -> tuple[Box, Box]:
    """Return a box with a margin of at least a voxel around it, and where the box lies in it."""
    margins = [max(1, int(np.ceil(margin_mm / mm))) for mm in spacing_mm]
    wide = tuple(
        slice(max(0, s.start - margin), min(n, s.stop + margin))
        for s, n, margin in zip(box, shape, margins, strict=True)
    )
    inner = tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(box, wide, strict=True))
    return wide, inner
