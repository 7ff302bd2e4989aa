"""Artefacts that a scanner and a brain extraction leave in an image; one transform a function.

Images are float32, shape (k, j, i), on the cube, white matter about 1 and 0 for no signal, unless a function says
otherwise. No function changes what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import fft, ndimage
from torch.nn import functional

from pipelines.brain.thin_slices import along_axis, mean_weights
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.types import BoolArray, FloatArray


def smooth_field(shape: tuple[int, ...], nodes: int, rng: np.random.Generator) -> FloatArray:
    """Return a smooth random field of about unit SD, float32, given by its coarse grid of nodes."""
    coarse = rng.standard_normal((nodes,) * 3).astype(np.float32)
    # torch enlarges six times faster than scipy, to the same values.
    field = functional.interpolate(torch.from_numpy(coarse)[None, None], size=shape, mode="trilinear")[
        0, 0
    ].numpy()
    return np.asarray(field / (coarse.std() * 0.6 + 1e-6), dtype=np.float32)


def bent_coordinates(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    *,
    angle_deg: float = 12.0,
    scales: tuple[float, float] = (0.9, 1.14),
    bend_voxels: float = 2.2,
    mirror: bool = True,
) -> list[FloatArray]:
    """Draw a turn, scale, shear (SD 0.012), shift (4 voxels) and elastic bend.

    Parameters
    ----------
    angle_deg : float
        Largest turn about each axis; three heads of ten are not turned.
    scales : two floats
        Least and greatest scale, drawn for each axis.
    bend_voxels : float
        Largest SD of the elastic part, in voxels, over 4 to 8 nodes an axis.
    mirror : bool
        Swap left and right in half of the cases.

    Returns
    -------
    list of three float32 arrays, shape (k, j, i)
        Where each voxel of the result comes from, in voxels along k, j and i.

    References
    ----------
    Billot et al., SynthSeg, Med Image Anal 2023, section 3.1; [ours] smaller turns and scales: the cube is already turned to
    the MNI axes and centred.
    """
    angles = np.deg2rad(rng.uniform(-angle_deg, angle_deg, 3) * (rng.random() < 0.7))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    matrix = matrix @ np.diag(rng.uniform(*scales, 3)) @ (np.eye(3) + rng.normal(0, 0.012, (3, 3)))
    if mirror and rng.random() < 0.5:
        matrix[:, 2] *= -1
    centre = (np.array(shape) - 1) / 2
    offset = centre - matrix @ (centre + rng.uniform(-4, 4, 3))
    nodes = int(rng.integers(4, 9))
    amplitude = np.float32(rng.uniform(0, bend_voxels))
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    return [
        sum(np.float32(matrix[row, a]) * axes[a] for a in range(3))
        + np.float32(offset[row])
        + amplitude * smooth_field(shape, nodes, rng)
        for row in range(3)
    ]


def sample_at(array: FloatArray, coordinates: list[FloatArray]) -> FloatArray:
    """Return an array at coordinates in voxels, linearly interpolated; 0 outside.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
    coordinates : list of three float32 arrays, shape (k, j, i)
        Along k, j and i.
    """
    # torch counts its axes backwards, each from -1 to 1 between the outer voxel centres.
    scaled = [2 * c / (n - 1) - 1 for c, n in zip(coordinates, array.shape, strict=True)]
    grid = torch.from_numpy(np.stack(scaled[::-1], axis=-1).astype(np.float32))[None]
    values = functional.grid_sample(torch.from_numpy(array)[None, None], grid, align_corners=True)
    return np.asarray(values[0, 0].numpy(), dtype=np.float32)


def bias_field(image: FloatArray, strength: float, rng: np.random.Generator) -> FloatArray:
    """Multiply by a smooth field whose logarithm has the given SD: what is left of shading after its correction."""
    field = smooth_field(image.shape, int(rng.integers(2, 5)), rng)
    return np.asarray(image * np.exp(np.float32(strength) * field), dtype=np.float32)


def gamma(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Raise to a power of about 1 (SD of its logarithm 0.15): another T1 and T2 weighting; white matter stays 1."""
    return np.asarray(np.maximum(image, 0) ** np.float32(np.exp(rng.normal(0, 0.15))), dtype=np.float32)


def ghosting(image: FloatArray, axis: int, ghosts: int, strength: float) -> FloatArray:
    """Return an image with ``ghosts`` faint copies of itself along the phase-encoding axis.

    Every n-th line of k-space is weakened, as by periodic motion or flow; the lines of lowest frequency, which carry the
    contrast, are kept.

    Parameters
    ----------
    axis : int
        Phase encoding.
    strength : float
        Share of the lines that is taken away, in [0, 1].

    References
    ----------
    Perez-Garcia et al., TorchIO, Comput Methods Programs Biomed 2021, RandomGhosting.
    """
    spectrum = fft.fft(image, axis=axis)
    frequency = np.abs(fft.fftfreq(image.shape[axis]))
    weak = (np.arange(image.shape[axis]) % ghosts == 0) & (frequency > 0.02)
    factor = np.where(weak, 1 - strength, 1).astype(np.float32)
    spectrum *= factor.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.asarray(np.abs(fft.ifft(spectrum, axis=axis)), dtype=np.float32)


def rician(image: FloatArray, noise: float, rng: np.random.Generator) -> FloatArray:
    """Add the noise of a magnitude image; ``noise`` is the SD of each channel over white matter."""
    real = image + np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.hypot(real, imaginary), dtype=np.float32)


@dataclass(frozen=True)
class Slices:
    """Slices through the cube.

    Parameters
    ----------
    distance_mm : float
        Between their centres; more than the cube's 1.2 mm.
    profile_mm : float
        Thickness that each sees: less than the distance where they have gaps.
    axis : int
        Across the slices: 0 for axial ones.
    start : float
        Centre of the first one, as a share of the distance.
    """

    distance_mm: float
    profile_mm: float
    axis: int
    start: float

    def _centres(self, length: int) -> npt.NDArray[np.float64]:
        """Return the centres in voxels of the cube."""
        step = self.distance_mm / SPACING_MM
        return np.asarray((np.arange(max(8, round(length / step))) + self.start) * step, dtype=np.float64)

    def take(self, image: FloatArray) -> FloatArray:
        """Return the mean of a cube over the profile of each slice, along the axis."""
        length, half = image.shape[self.axis], self.profile_mm / SPACING_MM / 2
        across = [-1 if a == self.axis else 1 for a in range(3)]
        before = np.cumsum(image, axis=self.axis, dtype=np.float32) - image

        def up_to(place: npt.NDArray[np.float64]) -> FloatArray:
            """Integrate from the cube's border, half a voxel before its first centre."""
            end = np.clip(place + 0.5, 0, length)
            low = np.minimum(end.astype(int), length - 1)
            rest = (end - low).astype(np.float32).reshape(across)
            return np.asarray(
                np.take(before, low, axis=self.axis) + rest * np.take(image, low, axis=self.axis)
            )

        centres = self._centres(length)
        return np.asarray((up_to(centres + half) - up_to(centres - half)) / np.float32(2 * half))

    def back(self, slices: FloatArray, length: int) -> FloatArray:
        """Bring slices to a cube of ``length`` planes, as the pipeline does."""
        step = self.distance_mm / SPACING_MM
        centres = self._centres(length)
        borders = (np.arange(length + 1) - 0.5 - centres[0]) / step + 0.5
        return along_axis(mean_weights(len(centres), borders), slices, self.axis)


def draw_slices(
    distance_mm: float, axis: int, rng: np.random.Generator, profile_mm: float | None = None
) -> Slices:
    """Return slices that begin at random; without gaps where no profile is given."""
    profile = distance_mm if profile_mm is None else min(profile_mm, distance_mm)
    return Slices(distance_mm, profile, axis, float(rng.uniform(0, 1)))


def thick_slices(image: FloatArray, slices: Slices, noise: float, rng: np.random.Generator) -> FloatArray:
    """Take an image in slices, with Rician noise (see `rician`) in each, and bring it back to the cube as the pipeline does."""
    return slices.back(rician(slices.take(image), noise, rng), image.shape[slices.axis])


def drawn_on_slices(share: FloatArray, slices: Slices, cut: float) -> BoolArray:
    """Return the mask that an expert draws slice by slice, on the cube.

    Parameters
    ----------
    share : float32 array, shape (k, j, i)
        Share of lesion in each voxel.
    cut : float
        Share of lesion in the slice from which on it is drawn.
    """
    drawn = (slices.take(share) >= cut).astype(np.float32)
    return np.asarray(slices.back(drawn, share.shape[slices.axis]) > 0.5)


def remaining_skull(
    image: FloatArray, brain: BoolArray, rng: np.random.Generator
) -> tuple[FloatArray, BoolArray]:
    """Leave patches of dura, marrow or scalp, up to some 4 mm, outside the brain and within its mask.

    Returns
    -------
    image : float32 array, shape (k, j, i)
    mask : bool array, shape (k, j, i)
        The brain with the patches.
    """
    near = ndimage.gaussian_filter(brain.astype(np.float32), rng.uniform(1.5, 3.0))
    patches = smooth_field(brain.shape, int(rng.integers(6, 14)), rng) > rng.uniform(0.6, 1.6)
    left = ~brain & (near > rng.uniform(0.05, 0.3)) & patches
    texture = np.abs(1 + 0.3 * smooth_field(brain.shape, 60, rng))
    value = np.float32(rng.uniform(0.2, 1.9)) * texture
    soft = ndimage.gaussian_filter(left.astype(np.float32), 0.5)
    return np.asarray(image * (1 - soft) + value * soft, dtype=np.float32), np.asarray(brain | left)


def jittered_mask(brain: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Return a brain mask with a jittered border: up to 2.5 mm too tight here, up to 4 mm too wide there."""
    soft = ndimage.gaussian_filter(brain.astype(np.float32), 2.0)
    level = rng.uniform(0.25, 0.6) + rng.uniform(0, 0.12) * smooth_field(brain.shape, 10, rng)
    return np.asarray(soft > np.clip(level, 0.06, 0.85))


def scalp_plate(image: FloatArray, mask: BoolArray, rng: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Leave a plate of scalp within the brain mask: beyond a dark gap of bone, 3 to 8 mm thick, 20 to 60 mm wide.

    Returns
    -------
    image : float32 array, shape (k, j, i)
    mask : bool array, shape (k, j, i)
        The mask with bone and plate.
    """
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    # Over the convexity, where an extraction errs so.
    edge = edge[edge[:, 0] > np.percentile(edge[:, 0], 40)]
    if not len(edge):
        return image, mask
    centre, radius = edge[rng.integers(len(edge))], rng.uniform(10, 30) / SPACING_MM
    margin = int(radius) + 12
    box = tuple(slice(max(0, c - margin), c + margin + 1) for c in centre)
    outside = ndimage.distance_transform_edt(~mask[box], sampling=SPACING_MM)
    far = [np.arange(s.start, s.start + n) - c for s, n, c in zip(box, outside.shape, centre, strict=True)]
    near = sum(f.astype(np.float32) ** 2 for f in np.ix_(*far)) < radius**2
    gap = rng.uniform(1.3, 3.3)
    plate = (outside > gap) & (outside < gap + rng.uniform(3, 8)) & near
    bone = (outside > 0) & (outside <= gap) & near
    out, wide = image.copy(), mask.copy()
    texture = np.abs(1 + 0.25 * smooth_field(outside.shape, 12, rng))
    out[box] = np.where(plate, np.float32(rng.uniform(0.8, 2.6)) * texture, out[box])
    out[box] = np.where(bone, np.float32(rng.uniform(0.05, 0.4)), out[box])
    wide[box] |= plate | bone
    return out, wide
