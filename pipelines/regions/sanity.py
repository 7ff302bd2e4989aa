"""Ranges outside of which the structures of a brain are not believed, and what the field of view cuts off."""

from __future__ import annotations

import numpy as np

from pipelines.brain.grid import Grid
from pipelines.regions.brain_map import BrainMap
from pipelines.regions.structures import Structure
from pipelines.types import FloatArray, Region

# [ours] The ranges hold all of 13 real scans, brains cut off at the vertex and atrophic ones (840 to 1520 mL) among them, with
# room around.
BRAIN_ML = (750.0, 1800.0)
HINDBRAIN_ML = (90.0, 220.0)
"""Cerebellum and brainstem together, as far as the field of view has them whole."""
VENTRICLES_ML = (3.0, 200.0)
ASYMMETRY = 0.4
"""Most difference between the lateral ventricles, over their sum."""
OFF_CENTRE_MM = 10.0
DARKER = 1.0
"""The ventricles are darker than white matter by so much, on the scale of `pipelines.flair.intensity`, where 5 is all of it."""
CUT_CM2 = 12.0
"""Cerebellum and brainstem that lie against the border of the field of view with more than this are cut off by it: the
medulla and the tips of the tonsils have up to 6, the cerebellum up to 60."""


def cut_cm2(brain: BrainMap, image: Grid) -> float:
    """Return the area of cerebellum and brainstem that lies against the border of an image, cm2."""
    hind = np.isin(brain.structures, (Structure.CEREBELLUM, Structure.BRAINSTEM))
    points = brain.grid.positions_lps(np.argwhere(hind))
    inverse = np.linalg.inv(image.affine)
    at_kji = (points @ inverse[:3, :3].T + inverse[:3, 3])[:, ::-1]
    edge = np.minimum(at_kji, np.array(image.shape_kji) - 1 - at_kji) * np.array(image.spacing_mm)
    # A layer of one voxel of the map at the border of the outermost voxels.
    reached = (edge + np.array(image.spacing_mm) / 2).min(axis=1) < brain.voxel_mm
    return float(np.count_nonzero(reached) * brain.voxel_mm**2 / 100)


def not_covered(brain: BrainMap, image: Grid) -> tuple[Region, ...]:
    """Return the regions that the field of view of an image cuts off."""
    return ("infratentorial",) if cut_cm2(brain, image) > CUT_CM2 else ()


def figures_of(brain: BrainMap, values: FloatArray) -> dict[str, float]:
    """Return what the ranges are applied to.

    Parameters
    ----------
    values : float32 array, shape of the map
        Normalised FLAIR.
    """
    lateral = brain.structures == Structure.LATERAL_VENTRICLE
    points = brain.grid.positions_lps(np.argwhere(lateral))
    left_mm = brain.midline.left_mm(points)
    left = float((left_mm > 0).mean()) if len(points) else 0.0
    medians = [
        float(np.median(values[brain.structures == of])) if (brain.structures == of).any() else 0.0
        for of in (Structure.WHITE, Structure.LATERAL_VENTRICLE)
    ]
    tissue = (
        Structure.CORTEX,
        Structure.WHITE,
        Structure.DEEP_GREY,
        Structure.CEREBELLUM,
        Structure.BRAINSTEM,
    )
    return {
        "brain_ml": brain.volume_ml(*tissue),
        "hindbrain_ml": brain.volume_ml(Structure.CEREBELLUM, Structure.BRAINSTEM),
        "ventricles_ml": brain.volume_ml(Structure.LATERAL_VENTRICLE),
        "asymmetry": abs(2 * left - 1),
        "off_centre_mm": abs(float(left_mm.mean())) if len(points) else 0.0,
        "darker": medians[0] - medians[1],
    }


def doubt(brain: BrainMap, values: FloatArray, image: Grid) -> str:
    """Return why the structures of a brain are not believed, in one line; empty where they are.

    Parameters
    ----------
    values : float32 array, shape of the map
        Normalised FLAIR.
    image : Grid
        Of the image; what it cuts off may be small.
    """
    found = figures_of(brain, values)
    cut = bool(not_covered(brain, image))
    for name, key, unit, (least, most) in (
        ("the brain", "brain_ml", "mL", (0.0 if cut else BRAIN_ML[0], BRAIN_ML[1])),
        (
            "cerebellum and brainstem",
            "hindbrain_ml",
            "mL",
            (0.0 if cut else HINDBRAIN_ML[0], HINDBRAIN_ML[1]),
        ),
        ("the lateral ventricles", "ventricles_ml", "mL", VENTRICLES_ML),
    ):
        if not least <= found[key] <= most:
            return f"{name} would have {found[key]:.0f} {unit}, which is not plausible"
    if found["asymmetry"] > ASYMMETRY or found["off_centre_mm"] > OFF_CENTRE_MM:
        return "the lateral ventricles would not lie on both sides of the midline"
    if found["darker"] < DARKER:
        return "the lateral ventricles would not be darker than white matter"
    return ""
