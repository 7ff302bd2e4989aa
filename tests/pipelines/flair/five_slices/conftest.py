"""A head painted in MNI space on any native grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.brain.grid import Grid, bounding_box
from pipelines.brain.mni_space import Alignment
from pipelines.flair.preprocess import Brain

Matrix = npt.NDArray[np.float64]
Head = Callable[[Matrix, Matrix], tuple[Brain, Alignment]]

CENTRE_LPS = np.array([0.0, 17.0, 7.5])
# the ellipsoid of which 0.5 % of the volume lies beyond the template's 0.5th and 99.5th percentile
SEMI_AXES_MM = np.array([67.0, 83.0, 67.5]) / 0.9175
LESION_LPS, LESION_MM = np.array([30.0, -20.0, 38.0]), 8.0
VENTRICLE_LPS, VENTRICLE_MM = np.array([-15.0, 40.0, -2.0]), 10.0


def painted(mni: Matrix) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """Return intensity and brain at MNI points: a rim, a lesion left in front, fluid right behind, bright scalp."""
    radius = np.sqrt((((mni - CENTRE_LPS) / SEMI_AXES_MM) ** 2).sum(axis=-1))
    brain = radius < 1
    values = np.where(radius < 0.85, 100.0, 115.0)
    values[np.linalg.norm(mni - LESION_LPS, axis=-1) < LESION_MM] = 170
    values[np.linalg.norm(mni - VENTRICLE_LPS, axis=-1) < VENTRICLE_MM] = 20
    values[~brain] = 300
    return values, brain


@pytest.fixture
def head() -> Head:
    """Return what makes a head: axes (3, 3) of the native grid, mm, and its pose, MNI to patient."""

    def make(axes: Matrix, pose: Matrix) -> tuple[Brain, Alignment]:
        middle = (pose @ [*CENTRE_LPS, 1.0])[:3]
        shape_ijk = np.ceil(210.0 / np.linalg.norm(axes, axis=0)).astype(int)
        affine = np.eye(4)
        affine[:3, :3] = axes
        affine[:3, 3] = middle - axes @ ((shape_ijk - 1) / 2.0)
        whole = Grid((int(shape_ijk[2]), int(shape_ijk[1]), int(shape_ijk[0])), affine)
        points = whole.positions_lps(np.moveaxis(np.indices(whole.shape_kji), 0, -1))
        back = np.linalg.inv(pose)
        values, mask = painted(points @ back[:3, :3].T + back[:3, 3])
        box = bounding_box(mask, 10.0, whole.spacing_mm)
        brain = Brain(whole, box, whole.crop(box), values[box].astype(np.float32), mask[box].copy())
        return brain, Alignment(pose, 0.0)

    return make
