"""A FLAIR-like image of a tissue map: contrast, lesions, texture, bias, slices and noise.

Contrast is drawn anew for each image, as in SynthSeg (Billot et al., Med Image Anal 2023), part of it in the order of
FLAIR; what is normally bright on FLAIR (insula, cingulate, corticospinal tract, choroid plexus; see also
`normal_brightness`) is painted so, because a network takes it for lesions otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.training.synthetic.anatomy import Labels, Tissue
from pipelines.training.synthetic.artefacts import (
    Slices,
    bias_field,
    draw_slices,
    drawn_on_slices,
    gamma,
    ghosting,
    rician,
    smooth_field,
    thick_slices,
)
from pipelines.training.synthetic.normal_brightness import Position, brightness
from pipelines.types import BoolArray, FloatArray

FLAIR_ORDER_SHARE = 0.7
"""Share of training images whose tissues stand in the order of FLAIR: fluid < white < grey < lesion."""
LESION_RATIO = (1.5, 0.15)
"""Mean and SD over patients of the intensity at a lesion's core over white matter's; its edge, slices and noise take that
to the 1.37 to 1.43 that real masks show."""
TEXTURE_LIMIT = 0.15
"""Most that the texture of tissue adds to its brightness [ours]: in seven real FLAIR scans one voxel in ten thousand of the
tissue deep in the brain is 0.21 to 0.28 brighter than what surrounds it, lesions left out, noise and deep cortex included."""
NORMAL_KNEE, NORMAL_LIMIT = 1.2, 1.45
"""Brightness over white matter up to which normal tissue is painted as drawn, and the bound that what is brighter approaches
[ours]: in ten real FLAIR scans, lesions left out, the brightest hundredth of insula and cingulate is 1.20 to 1.47 times the
brain's mode, of the rest of the brain 1.13 to 1.40, noise included. What is brighter than that is a lesion on any FLAIR."""
SHADING, MOST_SHADING = 0.06, 0.14
"""Bound of the shading's SD in most images, and in those whose correction went wrong [ours]: after it the medians of 19 mm
blocks of tissue differ by an SD of 0.03 to 0.06 in ten real FLAIR scans, tissue's own differences included."""


ISOTROPIC_SHARE, GAP_SHARE = 0.35, 0.3
"""Share of training images that are isotropic, and of those with slices of some 5 mm and gaps, 5.5 to 8.5 mm apart: what many
1.5 T protocols send."""
HALF = 0.5
"""Share of a lesion's contrast from which on an expert draws it [ours]: the darkest tenth of the voxels in the masks of ten
real scans has 1.25 times the brain's mode, where lesions have 1.50."""


@dataclass(frozen=True)
class Acquisition:
    """Slices of an image, None where it is isotropic, and its noise SD over white matter."""

    slices: Slices | None
    noise: float


@dataclass(frozen=True)
class Painted:
    """A head before it is scanned.

    Parameters
    ----------
    image : float32 array, shape (k, j, i)
        White matter is about 1.
    share : float32 array, shape (k, j, i)
        Share of a lesion's contrast in each voxel.
    """

    image: FloatArray
    share: FloatArray


def tissue_means(rng: np.random.Generator, flair_order_share: float = FLAIR_ORDER_SHARE) -> FloatArray:
    """Draw the mean intensity of each tissue, white matter being 1; float32, one for each `Tissue`."""
    means = np.zeros(len(Tissue), np.float32)
    if rng.random() < flair_order_share:
        grey, fluid = rng.normal(1.14, 0.07), rng.uniform(0.1, 0.5)
    else:
        grey, fluid = rng.uniform(0.85, 1.35), rng.uniform(0.05, 0.8)
    means[Tissue.FLUID] = fluid * rng.uniform(0.9, 1.3)
    means[Tissue.VENTRICLE] = fluid * rng.uniform(0.7, 1.1)
    means[Tissue.CORTEX] = grey
    means[Tissue.WHITE] = 1.0
    means[Tissue.DEEP_GREY] = 1 + (grey - 1) * rng.uniform(0.2, 1.0)
    means[Tissue.CEREBELLAR_CORTEX] = grey * rng.uniform(0.92, 1.1)
    means[Tissue.CEREBELLAR_WHITE] = rng.uniform(0.92, 1.1)
    means[Tissue.BRAINSTEM] = rng.uniform(0.95, 1.15)
    means[Tissue.CHOROID] = rng.uniform(0.5, 1.6)
    means[Tissue.CAP] = rng.uniform(1.0, 1.3)
    means[Tissue.BRIGHT_CORTEX] = grey * rng.uniform(1.0, 1.22)
    means[Tissue.BRIGHT_TRACT] = rng.uniform(1.0, 1.18)
    means[Tissue.SOFT] = rng.uniform(0.3, 1.2)
    means[Tissue.BONE] = rng.uniform(0.02, 0.4)
    means[Tissue.FAT] = rng.uniform(0.2, 2.0)
    return means


def _lesion_layer(
    lesions: npt.NDArray[np.int16], sigma_voxels: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return how much of each voxel is lesion, in [0, 1], and the intensity of the lesion there."""
    n = int(lesions.max())
    mean = np.clip(rng.normal(*LESION_RATIO), 1.25, 2.0)
    ratios = np.clip(rng.normal(mean, 0.1, n + 1), 1.2, 2.2).astype(np.float32)
    ratio = ratios[lesions] * (lesions > 0)
    share = ndimage.gaussian_filter((lesions > 0).astype(np.float32), sigma_voxels)
    spread = ndimage.gaussian_filter(ratio, sigma_voxels)
    return np.minimum(1.4 * share, 1), spread / np.maximum(share, 1e-3)


def bright_patches(image: FloatArray, cortex: npt.NDArray[np.bool_], rng: np.random.Generator) -> FloatArray:
    """Brighten thin patches of cortex until they are nearly as bright as a lesion; no expert marks them."""
    patches = smooth_field(image.shape, int(rng.integers(24, 48)), rng) > rng.uniform(1.0, 2.0)
    return np.asarray(
        image * (1 + np.float32(rng.uniform(0.05, 0.25)) * (cortex & patches)), dtype=np.float32
    )


def bounded(image: FloatArray, labels: Labels) -> FloatArray:
    """Return an image whose normal brain tissue stays below `NORMAL_LIMIT`; fluid and choroid plexus are left as they are."""
    tissue = (labels >= Tissue.CORTEX) & (labels < Tissue.SOFT) & (labels != Tissue.CHOROID)
    room = NORMAL_LIMIT - NORMAL_KNEE
    over = (image - NORMAL_KNEE) / room
    below = np.where(tissue & (over > 0), NORMAL_KNEE + room * np.tanh(over), image)
    return np.asarray(below, dtype=np.float32)


def paint(
    labels: Labels,
    lesions: npt.NDArray[np.int16],
    rng: np.random.Generator,
    flair_order_share: float = FLAIR_ORDER_SHARE,
    at: Position | None = None,
) -> Painted:
    """Return the intensities of a head with lesions before it is scanned.

    Parameters
    ----------
    labels : uint8 array, shape (k, j, i)
        Values of `Tissue`.
    lesions : int16 array, shape (k, j, i)
        0, or the lesion's number.
    flair_order_share : float
        Probability that fluid, white matter and grey matter stand in the order of FLAIR.
    at : Position, optional
        Without it nothing is bright by its place, as the ventricles' rim is.
    """
    shape = labels.shape
    image = tissue_means(rng, flair_order_share)[labels]
    cortex = (
        (labels == Tissue.CORTEX) | (labels == Tissue.BRIGHT_CORTEX) | (labels == Tissue.CEREBELLAR_CORTEX)
    )
    image = image * (1 + cortex * (rng.uniform(0, 0.14) * smooth_field(shape, 12, rng)))
    if rng.random() < 0.6:
        image = bright_patches(image, cortex, rng)
    image = bounded(image, labels)
    if at is not None:
        factor, added = brightness(labels, at, rng)
        image = image * factor + added
    image = ndimage.gaussian_filter(image, rng.uniform(0.3, 0.75))
    share = np.zeros(shape, np.float32)
    if lesions.any():
        share, value = _lesion_layer(lesions, rng.uniform(0.4, 0.9), rng)
        # A lesion on a bright rim is no darker than the rim.
        image = np.where(value > image, image * (1 - share) + share * value, image)
        if rng.random() < 0.5:
            # Dirty white matter around lesions belongs to no expert's mask.
            halo = ndimage.gaussian_filter(share, rng.uniform(1.5, 4.0))
            image = image * (1 + rng.uniform(0, 0.2) * halo * (1 - share))
    uneven = np.maximum(image * texture(shape, rng), 0)
    return Painted(np.asarray(uneven, dtype=np.float32), np.asarray(share, dtype=np.float32))


def drawn(share: FloatArray, slices: Slices | None) -> BoolArray:
    """Return the mask that an expert would draw: what has half a lesion's contrast in the image that is seen.

    Parameters
    ----------
    share : float32 array, shape (k, j, i)
        See `Painted`.
    slices : Slices, optional
        None where the image is isotropic.
    """
    return np.asarray(share >= HALF) if slices is None else drawn_on_slices(share, slices, HALF)


def texture(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Return the unevenness of tissue, 1 on average, at 2.4, 6 and 16 mm.

    Its bright side is bounded by `TEXTURE_LIMIT`: 1.25 of the white matter around it is a lesion, and an unbounded field has
    such spots in any head that is rough enough.
    """
    uneven = np.zeros(shape, np.float32)
    for nodes, most in ((80, 0.08), (32, 0.08), (12, 0.09)):
        uneven += np.float32(rng.uniform(0, most)) * smooth_field(shape, nodes, rng)
    bright = np.float32(TEXTURE_LIMIT) * np.tanh(np.maximum(uneven, 0) / np.float32(TEXTURE_LIMIT))
    return np.asarray(1 + np.where(uneven > 0, bright, uneven), dtype=np.float32)


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """Draw slices (a third of the images isotropic, the rest up to 8.5 mm apart, mostly axial) and noise."""
    kind = rng.random()
    if kind < ISOTROPIC_SHARE:
        return Acquisition(None, float(rng.uniform(0.01, 0.09)))
    axis = 0 if rng.random() < 0.75 else int(rng.integers(1, 3))
    noise = float(rng.uniform(0.01, 0.07))
    if kind < ISOTROPIC_SHARE + GAP_SHARE:
        distance, profile = rng.uniform(5.5, 8.5), rng.uniform(4.5, 6.0)
        return Acquisition(draw_slices(float(distance), 0, rng, float(profile)), noise)
    # Most clinical FLAIR has 3 to 5 mm; few have more.
    thickness = rng.uniform(1.5, 6.0) if rng.random() < 0.9 else rng.uniform(6.0, 8.0)
    return Acquisition(draw_slices(float(thickness), axis, rng), noise)


def scan(image: FloatArray, acquisition: Acquisition, rng: np.random.Generator) -> FloatArray:
    """Return an image as a scanner would give it, resampled to the cube: bias, gamma, ghosts, slices, noise, blur."""
    # SynthSeg's SD of 0.7 is that of raw images; these stand behind a bias correction.
    corrected = rng.random() < 0.85
    out = bias_field(image, rng.uniform(0, SHADING) if corrected else rng.uniform(SHADING, MOST_SHADING), rng)
    if rng.random() < 0.5:
        out = gamma(out, rng)
    if rng.random() < 0.15:
        out = ghosting(out, int(rng.integers(1, 3)), int(rng.integers(2, 6)), rng.uniform(0.1, 0.5))
    if acquisition.slices is not None:
        return thick_slices(out, acquisition.slices, acquisition.noise, rng)
    out = rician(out, acquisition.noise, rng)
    if rng.random() < 0.6:
        out = ndimage.gaussian_filter(out, rng.uniform(0.2, 0.6))
    return np.asarray(out, dtype=np.float32)
