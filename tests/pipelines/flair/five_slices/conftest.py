"""A head painted in MNI space on any native grid."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.brain.grid import Grid, bounding_box
from pipelines.brain.mni_space import Alignment
from pipelines.flair.five_slices.slices import Slices, slices_from_brain
from pipelines.flair.preprocess import Brain

Matrix = npt.NDArray[np.float64]
Head = Callable[[Matrix, Matrix], tuple[Brain, Alignment]]
Sliced = Callable[[Matrix, Matrix], tuple[Brain, Slices]]

CENTRE_LPS = np.array([0.0, 17.0, 7.5])
# the ellipsoid of which 0.5 % of the volume lies beyond the template's 0.5th and 99.5th percentile
SEMI_AXES_MM = np.array([67.0, 83.0, 67.5]) / 0.9175
LESION_LPS, LESION_MM = np.array([30.0, -20.0, 38.0]), 8.0
VENTRICLE_LPS, VENTRICLE_MM = np.array([-15.0, 40.0, -2.0]), 10.0


def painted(mni: Sequence[Matrix]) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    """Return intensity and brain at MNI points (L, P, S): a rim, a lesion left in front, fluid right behind, bright scalp."""
    radius = np.sqrt(squared(mni, CENTRE_LPS, SEMI_AXES_MM))
    brain = radius < 1
    values = np.where(radius < 0.85, 100.0, 115.0)
    values[squared(mni, LESION_LPS) < LESION_MM**2] = 170
    values[squared(mni, VENTRICLE_LPS) < VENTRICLE_MM**2] = 20
    values[~brain] = 300
    return values, brain


def squared(points: Sequence[Matrix], centre: Matrix, semi_axes: Matrix | None = None) -> Matrix:
    """Return the squared distance of points from a centre, mm or in semi-axes."""
    unit = np.ones(3) if semi_axes is None else semi_axes
    return np.asarray(sum(((x - c) / u) ** 2 for x, c, u in zip(points, centre, unit, strict=True)))


@functools.cache
def made(axes: tuple[float, ...], pose: tuple[float, ...]) -> tuple[Brain, Alignment]:
    """Return a head on its native grid, once for all tests that ask for it: its arrays cannot be written to."""
    axes_mm, mni_to_patient = np.reshape(axes, (3, 3)), np.reshape(pose, (4, 4))
    middle = (mni_to_patient @ [*CENTRE_LPS, 1.0])[:3]
    shape_ijk = np.ceil(210.0 / np.linalg.norm(axes_mm, axis=0)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes_mm
    affine[:3, 3] = middle - axes_mm @ ((shape_ijk - 1) / 2.0)
    whole = Grid((int(shape_ijk[2]), int(shape_ijk[1]), int(shape_ijk[0])), affine)
    k, j, i = np.ogrid[tuple(slice(0, n) for n in whole.shape_kji)]
    to_mni = np.linalg.inv(mni_to_patient) @ affine
    values, mask = painted([row[0] * i + row[1] * j + row[2] * k + row[3] for row in to_mni[:3]])
    box = bounding_box(mask, 10.0, whole.spacing_mm)
    brain = Brain(whole, box, whole.crop(box), values[box].astype(np.float32), mask[box].copy())
    brain.array.flags.writeable = brain.mask.flags.writeable = False
    return brain, Alignment(mni_to_patient, 0.0)


@functools.cache
def cut(axes: tuple[float, ...], pose: tuple[float, ...]) -> Slices:
    """Return the five slices of such a head, cut once for all tests that ask for them."""
    brain, alignment = made(axes, pose)
    slices = slices_from_brain(brain.array, brain, alignment)
    slices.images.flags.writeable = False
    return slices


@pytest.fixture(scope="session")
def sliced() -> Sliced:
    """Return what makes a head and cuts it: axes and pose as for `head`."""

    def make(axes: Matrix, pose: Matrix) -> tuple[Brain, Slices]:
        key = (tuple(axes.ravel().tolist()), tuple(pose.ravel().tolist()))
        return made(*key)[0], cut(*key)

    return make


@pytest.fixture(scope="session")
def head() -> Head:
    """Return what makes a head: axes (3, 3) of the native grid, mm, and its pose, MNI to patient."""

    def make(axes: Matrix, pose: Matrix) -> tuple[Brain, Alignment]:
        return made(tuple(axes.ravel().tolist()), tuple(pose.ravel().tolist()))

    return make
