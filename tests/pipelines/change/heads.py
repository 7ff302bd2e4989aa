"""Small brains with lesions at known places, and examinations of them."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np
from scipy import ndimage

from pipelines.brain.grid import Grid
from pipelines.comparison import Examined
from pipelines.types import Affine, FloatArray, Lesion, Volume

SCANNER: dict[str, object] = {
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Phantom",
    "MagneticFieldStrength": 3.0,
    "MRAcquisitionType": "2D",
    "EchoTime": 90.0,
    "InversionTime": 2500.0,
    "RepetitionTime": 9000.0,
    "SliceThickness": 3.0,
}
SHAPE = (26, 72, 64)
SPACING = (3.0, 1.5, 1.5)
Ball = tuple[float, float, float, float]
"""Centre, mm, LPS, and radius, mm."""


def grid(shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Grid:
    affine = np.diag([*SPACING[::-1], 1.0])
    affine[:3, 3] = -np.array(SPACING[::-1]) * (np.array(SHAPE[::-1]) - 1) / 2 + shift_mm
    return Grid(SHAPE, affine)


def _points(on: Grid, pose: Affine) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in on.shape_kji), indexing="ij"), axis=-1)
    return np.asarray(on.positions_lps(index) @ pose[:3, :3].T + pose[:3, 3])


def examination(
    lesions: Sequence[Ball],
    *,
    pose: Affine | None = None,
    seed: int = 0,
    noise: float = 0.02,
    attributes: dict[str, object] | None = None,
) -> Examined:
    """Return a brain of folds and ventricles with round lesions, as networks without any doubt would see it."""
    points = _points(grid(), np.eye(4) if pose is None else pose)
    radius = np.sqrt(((points / (36.0, 46.0, 32.0)) ** 2).sum(axis=-1))
    brain = radius < 1
    # Neither symmetric nor smooth, so that it can be registered.
    image = 1 + 0.15 * np.sin(points[..., 0] / 5) * np.sin(points[..., 1] / 6 + 1) * np.cos(
        points[..., 2] / 4
    )
    ventricles = (((points - (0, 4, 2)) / (7.0, 17.0, 9.0)) ** 2).sum(axis=-1) < 1
    image[ventricles] = 0.25
    probability = np.zeros(brain.shape)
    for x, y, z, ball_mm in lesions:
        distance = np.sqrt(((points - (x, y, z)) ** 2).sum(axis=-1))
        share = np.clip(0.5 + (ball_mm - distance) / 1.5, 0, 1)
        image = np.maximum(image, 1.4 * share)
        probability = np.maximum(probability, share)
    image = ndimage.gaussian_filter(np.where(brain, image, 0.05), (0, 0.5, 0.5))
    image += noise * np.random.default_rng(seed).standard_normal(image.shape)
    return of(
        np.maximum(image, 0).astype(np.float32) * 400,
        brain,
        (probability * brain).astype(np.float32),
        attributes,
    )


def of(
    array: FloatArray, brain: np.ndarray, probability: FloatArray, attributes: dict[str, object] | None = None
) -> Examined:
    labels = cc3d.connected_components(probability >= 0.5, connectivity=26)
    found = tuple(
        Lesion(n, "Lesion", float((labels == n).sum() * np.prod(SPACING)), (0.0, 0.0, 0.0), 0.9, (0, 0))
        for n in range(1, int(labels.max()) + 1)
    )
    volume = Volume(
        np.rint(array).astype(np.float32), grid().affine, SCANNER if attributes is None else attributes
    )
    return Examined(volume, brain, probability, labels.astype(np.int32), found)


def turned(degrees: float, shift_mm: tuple[float, float, float]) -> Affine:
    angle = np.deg2rad(degrees)
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = shift_mm
    return pose
