"""A volume as another session would have taken it: head moved, slices laid anew, other shading, contrast and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipelines.brain.grid import Grid, bounding_box
from pipelines.flair.intensity import brain_mode
from pipelines.training.synthetic.artefacts import smooth_field
from pipelines.types import Affine, BoolArray, FloatArray, Volume

WHITE = 400.0
"""Stored value of the brain's mode."""
MARGIN_MM = 18.0
"""Around the brain in a field of view that is laid anew."""
AIR = 0.02
"""Share of the brain's mode below which there is nothing to add noise to: a scan may come without its head."""


@dataclass(frozen=True)
class Session:
    """Differences between two scans of one head.

    Parameters
    ----------
    pose : float64 array, shape (4, 4)
        Where the head lies now, mm, LPS, to where it lay.
    slices_mm, pixel_mm : float
    plane : "axial" or "sagittal"
    gamma : float
        Power that the intensities over the mode are raised to.
    shading, noise : float
        SD of the shading's logarithm, and of each channel's noise over the mode.
    seed : int
        Of shading and noise.
    """

    pose: Affine
    slices_mm: float
    pixel_mm: float
    plane: str = "axial"
    gamma: float = 1.0
    shading: float = 0.06
    noise: float = 0.02
    seed: int = 0


def drawn_pose(
    centre_lps: np.ndarray, rng: np.random.Generator, *, turn_deg: float = 5.0, shift_mm: float = 10.0
) -> Affine:
    """Draw a turn about a point, as much about each axis at most, and a shift along each."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-turn_deg, turn_deg, 3))):
        a, b = [n for n in range(3) if n != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    pose = np.eye(4)
    pose[:3, :3] = turn
    pose[:3, 3] = centre_lps - turn @ (centre_lps + rng.uniform(-shift_mm, shift_mm, 3))
    return pose


def field_of_view(brain: BoolArray, source: Grid, session: Session) -> Grid:
    """Return a grid of a session's slices and pixels around a brain where it lies now."""
    box = bounding_box(brain, MARGIN_MM, source.spacing_mm)
    corners = np.array([[s[n].start, s[n].stop - 1] for s in [box] for n in range(3)], dtype=float)
    mesh = np.stack(np.meshgrid(*corners, indexing="ij"), axis=-1).reshape(-1, 3)
    back = np.linalg.inv(session.pose)
    points = source.positions_lps(mesh) @ back[:3, :3].T + back[:3, 3]
    axes = np.eye(3)
    if session.plane == "sagittal":
        axes = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    spacing = np.array([session.pixel_mm, session.pixel_mm, session.slices_mm])
    along = points @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    count = np.ceil((high - low) / spacing).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = axes @ ((low + high) / 2 - spacing * (count - 1) / 2)
    return Grid((int(count[2]), int(count[1]), int(count[0])), affine)


def taken(array: FloatArray, source: Grid, target: Grid, pose: Affine, *, order: int = 3) -> FloatArray:
    """Return an array as slices of another grid show it: the mean over the thickness that they have more than its own."""
    own_mm, slices_mm = source.spacing_mm[0], target.spacing_mm[0]
    parts = max(1, round(slices_mm / min(source.spacing_mm)))
    # Only what is thicker than the source's voxel along the slices is added to it.
    normal = target.affine[:3, 2] / slices_mm
    turned = np.linalg.inv(source.affine[:3, :3]) @ pose[:3, :3] @ normal
    own_mm = 1.0 / float(np.linalg.norm(turned))
    spread = np.sqrt(max(0.0, slices_mm**2 - own_mm**2) / max(1, parts**2 - 1)) / slices_mm
    parts = parts if spread > 0 else 1
    reverse = np.eye(4)[[2, 1, 0, 3]]
    values = np.asarray(array, dtype=np.float32)
    if order > 1:
        values = ndimage.spline_filter(values, order=order, output=np.float32)
    total = np.zeros(target.shape_kji, dtype=np.float32)
    for part in range(parts):
        shifted = target.affine.copy()
        shifted[:3, 3] += target.affine[:3, 2] * spread * (part - (parts - 1) / 2)
        matrix = reverse @ np.linalg.inv(source.affine) @ pose @ shifted @ reverse
        total += ndimage.affine_transform(
            values,
            matrix[:3, :3],
            matrix[:3, 3],
            output_shape=target.shape_kji,
            output=np.float32,
            order=order,
            mode="constant",
            prefilter=False,
        )
    return np.asarray(np.maximum(total / np.float32(parts), 0), dtype=np.float32)


def rescanned(volume: Volume, brain: BoolArray, session: Session, grid: Grid | None = None) -> Volume:
    """Return a volume as another session takes it, in whole numbers.

    Parameters
    ----------
    volume : Volume
    brain : bool array, shape (k, j, i)
    session : Session
    grid : Grid, optional
        Of the result; around the brain by default.
    """
    k, j, i = volume.array.shape
    source = Grid((k, j, i), volume.affine)
    target = field_of_view(brain, source, session) if grid is None else grid
    mode = np.float32(brain_mode(volume.array[brain]))
    image = taken(volume.array / mode, source, target, session.pose)
    rng = np.random.default_rng(session.seed)
    if session.gamma != 1.0:
        image **= np.float32(session.gamma)
    image *= np.exp(np.float32(session.shading) * smooth_field(image.shape, 4, rng))
    real, imaginary = (
        np.float32(session.noise) * rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2)
    )
    image = np.where(image > AIR, np.hypot(image + real, imaginary), image)
    attributes = {
        **volume.attributes,
        "SliceThickness": float(session.slices_mm),
    }
    return Volume(np.rint(image * np.float32(WHITE)).astype(np.float32), target.affine, attributes)


THIN_MM, USUAL_MM = 2.0, 3.5
"""Thinner slices become 3 mm thick in a moved copy; up to the second they grow by a third in half of the copies."""


def moved_copy(volume: Volume, brain: BoolArray, rng: np.random.Generator) -> Volume:
    """Return a scan as if the head lay otherwise: turned by up to 5 degrees, shifted by up to 10 mm, shaded, noisier."""
    k, j, i = volume.array.shape
    centre = Grid((k, j, i), volume.affine).positions_lps(np.argwhere(brain).mean(axis=0))
    pose = drawn_pose(np.asarray(centre), rng)
    slices_mm, pixel_mm, _ = volume.spacing_mm
    if slices_mm < THIN_MM:
        slices_mm = 3.0
    elif slices_mm < USUAL_MM and rng.random() < 0.5:
        slices_mm *= 4 / 3
    pixel_mm = max(pixel_mm, 0.7) * float(rng.choice([1.0, 1.1]))
    session = Session(pose, slices_mm, pixel_mm, shading=0.08, noise=0.02, seed=int(rng.integers(1_000_000)))
    return rescanned(volume, brain, session)
