"""Varied cases from real ones: lesions moved between scans, painted into them, and scans degraded.

Every donor, of an image or of a mask, must belong to the training fold: who calls gives no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.flair.intensity import BACKGROUND, SCALE, normalise
from pipelines.training.data_sets.sample import NO_CLASS, Sample
from pipelines.training.synthetic.anatomy import mni_extents
from pipelines.training.synthetic.artefacts import (
    bent_coordinates,
    bias_field,
    draw_slices,
    drawn_on_slices,
    gamma,
    ghosting,
    jittered_mask,
    remaining_skull,
    rician,
    sample_at,
    scalp_plate,
    smooth_field,
    thick_slices,
)
from pipelines.training.synthetic.lesion_masks import carried
from pipelines.types import BoolArray, FloatArray

Masks = Mapping[str, tuple[BoolArray, npt.NDArray[np.float64]]]
"""Patient to lesion mask (x, y, z) and LPS affine, MNI152 space; see `lesion_masks.read_masks`."""

MIX_SHARE = 0.4
"""Share of real cases that get another real case's lesions, where there is another one."""
PAINT_SHARE = 0.35
"""Share of real cases that get another patient's lesion mask painted in, where there are masks."""
THICK_SHARE = 0.6
"""Share of real cases that are made thicker than they are."""
VISIBLE_SHARE = 0.45
"""Share of a thick slice that a lesion fills where an expert draws it."""
THICK_STEPS = 0.5
"""Median step between neighbours across thick slices over that within them, at most."""
PAINTED_RATIO = (1.40, 0.06)
"""Mean and SD over patients of a painted lesion's core over its local white matter: real masks show 1.37 to 1.43."""


def signal(sample: Sample) -> FloatArray:
    """Return a sample's image with its brain's mode as 1 and no signal as 0: what `normalise` was given."""
    return np.asarray(1 + np.float32(SCALE) * sample.image, dtype=np.float32)


def brain_of(sample: Sample) -> BoolArray:
    """Return the brain mask that a sample was made with."""
    return np.asarray(sample.image > BACKGROUND)


def carve_mix(recipient: Sample, donor: Sample, rng: np.random.Generator) -> Sample:
    """Replace a part of a scan by another's, cut out along its lesions.

    The signed distance to the donor's lesions, negative inside, is cut at a random level: with equal chance within the lesions,
    between half their greatest depth and 0, or around them, up to that depth. What lies below the level is pasted with its
    truth. [ours] The donor is first stretched so that the extents of both brains match, since these scans are not
    registered to each other, and only what lies in both brains is pasted.

    References
    ----------
    Zhang et al., CarveMix: A simple data augmentation method for brain lesion segmentation, NeuroImage 2023, section 2.2.
    """
    brain = brain_of(recipient)
    (scale, origin), (donor_scale, donor_origin) = mni_extents(brain), mni_extents(brain_of(donor))
    ratio, shift = (scale / donor_scale)[::-1], ((origin - donor_origin) / donor_scale)[::-1]

    def moved(array: npt.NDArray[np.generic]) -> FloatArray:
        result = ndimage.affine_transform(array.astype(np.float32), ratio, shift, brain.shape, order=1)
        return np.asarray(result, dtype=np.float32)

    lesions = moved(donor.lesions) > 0.5
    if not lesions.any():
        return recipient
    depth = ndimage.distance_transform_edt(lesions)
    greatest = float(depth.max())
    if rng.random() < 0.5:
        cut = depth > rng.uniform(0, greatest / 2)
    else:
        cut = ndimage.distance_transform_edt(~lesions) <= rng.uniform(0, greatest)
    values = moved(signal(donor))
    cut &= brain & (moved(brain_of(donor)) > 0.5)
    image = np.where(cut, (values - 1) / np.float32(SCALE), recipient.image).astype(np.float32)
    ignore = recipient.ignore
    if ignore is not None or donor.ignore is not None:
        unknown = np.zeros(brain.shape, bool) if ignore is None else ignore
        theirs = np.zeros(brain.shape, bool) if donor.ignore is None else moved(donor.ignore) > 0
        ignore = np.where(cut, theirs, unknown)
    same = recipient.target == donor.target
    return Sample(
        np.where(brain, np.maximum(image, np.float32(BACKGROUND + 1e-3)), np.float32(BACKGROUND)),
        np.where(cut, lesions, recipient.lesions),
        recipient.target if same else NO_CLASS,
        ignore,
    )


def local_white(image: FloatArray, usable: BoolArray) -> FloatArray:
    """Return the mean of what is about as bright as white matter within some 8 mm of each voxel.

    Parameters
    ----------
    image : float32 array, shape (k, j, i)
        Mode 1; see `signal`.
    usable : bool array, shape (k, j, i)
        Brain without known lesions.
    """
    white = (usable & (image > 0.8) & (image < 1.2)).astype(np.float32)
    weight = ndimage.gaussian_filter(white, 6.0, truncate=2)
    total = ndimage.gaussian_filter(white * image, 6.0, truncate=2)
    return np.where(weight > 0.02, total / np.maximum(weight, 1e-6), 1).astype(np.float32)


def paint_lesions(
    recipient: Sample, mask: BoolArray, lps: npt.NDArray[np.float64], rng: np.random.Generator
) -> Sample:
    """Paint another patient's lesions, from MNI152 space, into a real FLAIR; its own known lesions stay.

    Lesions are as bright as real ones over the white matter around them, with soft edges, and leave out fluid and the
    border of the brain. [ours] Each has its own brightness, and keeps most of the texture that it covers.

    Parameters
    ----------
    mask, lps
        See `lesion_masks.carried`.
    """
    brain = brain_of(recipient)
    where = carried(mask, lps, mni_extents(brain), brain.shape, rng) > rng.uniform(0.25, 0.5)
    where &= may_be_painted(recipient)
    if not where.any():
        return recipient
    numbered, _ = ndimage.label(where, np.ones((3, 3, 3)))
    image, share = painted(recipient, numbered, rng)
    lesions = recipient.lesions | (share > 0.5)
    ignore = None if recipient.ignore is None else recipient.ignore & ~lesions
    return Sample(normalise(image, brain), lesions, NO_CLASS, ignore)


def may_be_painted(recipient: Sample) -> BoolArray:
    """Return where lesions can be painted into a scan: tissue, not at the border of the brain, not in its own lesions."""
    inner = ndimage.binary_erosion(brain_of(recipient), iterations=2)
    return np.asarray(_tissue(recipient) & inner & ~recipient.lesions)


def _tissue(sample: Sample) -> BoolArray:
    return np.asarray(ndimage.gaussian_filter(signal(sample), 0.7) > 0.75)


def painted(
    recipient: Sample, numbered: npt.NDArray[np.integer[Any]], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return a scan's `signal` with lesions painted in, and how much of each voxel is lesion.

    Parameters
    ----------
    numbered : integer array, shape (k, j, i)
        0, or the number of the lesion; those of one number are equally bright.
    """
    brain, image, where = brain_of(recipient), signal(recipient), numbered > 0
    mean = rng.normal(*PAINTED_RATIO)
    ratios = np.clip(rng.normal(mean, 0.06, int(numbered.max()) + 1), 1.15, 1.8).astype(np.float32)
    sigma = rng.uniform(0.4, 0.7)
    share = ndimage.gaussian_filter(where.astype(np.float32), sigma)
    ratio = ndimage.gaussian_filter(ratios[numbered] * where, sigma) / np.maximum(share, 1e-3)
    share = np.minimum(1.3 * share, 1) * (_tissue(recipient) & brain & ~recipient.lesions)
    white = local_white(image, brain & ~recipient.lesions)
    texture = np.clip(image - ndimage.gaussian_filter(image, 1.5), -0.15, 0.15)
    texture *= 1 + np.float32(rng.uniform(0, 0.1)) * smooth_field(brain.shape, 40, rng)
    value = ratio * white + np.float32(0.7) * texture
    # Cortex that is brighter than the lesion stays so: a lesion never darkens FLAIR.
    return np.maximum(image, image * (1 - share) + value * share), share


def bend(sample: Sample, rng: np.random.Generator) -> Sample:
    """Turn by up to 10 degrees, scale by up to 7 %, bend and mirror a scan with its truth."""
    where = bent_coordinates(sample.image.shape, rng, angle_deg=10, scales=(0.94, 1.07), bend_voxels=1.5)
    brain = sample_at(brain_of(sample).astype(np.float32), where) > 0.5
    image = np.where(brain, sample_at(signal(sample), where), 0).astype(np.float32)
    lesions = (sample_at(sample.lesions.astype(np.float32), where) > 0.5) & brain
    ignore = sample.ignore
    if ignore is not None:
        ignore = (sample_at(ignore.astype(np.float32), where) > 0) & brain
    return Sample(normalise(image, brain), lesions, sample.target, ignore)


def rescan(sample: Sample, rng: np.random.Generator) -> Sample:
    """Degrade a scan as other scanners would take it, and its brain mask as other extractions would.

    Slices of 3 to 6 mm, or of some 5 mm with gaps, 5.5 to 8.5 mm apart, mostly axial, in `THICK_SHARE` of the cases that are
    not thick already; bias, gamma, ghosts, noise; remains of the skull; a border of the mask that is too tight here and there.
    Gain is no transform of its own: `normalise` takes it out again, and `batches.vary` varies what it leaves.
    """
    brain, image, lesions = brain_of(sample), signal(sample), sample.lesions
    image = bias_field(image, rng.uniform(0, 0.1), rng)
    if rng.random() < 0.5:
        image = gamma(image, rng)
    if rng.random() < 0.1:
        image = ghosting(image, int(rng.integers(1, 3)), int(rng.integers(2, 6)), rng.uniform(0.1, 0.4))
    noise = float(rng.uniform(0, 0.06))
    if rng.random() < THICK_SHARE and not is_thick(image, brain):
        if rng.random() < 0.4:
            slices = draw_slices(float(rng.uniform(5.5, 8.5)), 0, rng, float(rng.uniform(4.5, 6)))
        else:
            axis = 0 if rng.random() < 0.8 else int(rng.integers(1, 3))
            slices = draw_slices(float(rng.uniform(3, 6)), axis, rng)
        image = thick_slices(image, slices, noise, rng)
        lesions = drawn_on_slices(lesions.astype(np.float32), slices, VISIBLE_SHARE)
    elif rng.random() < 0.5:
        image = rician(image, noise, rng)
    mask = brain
    if rng.random() < 0.3:
        mask = mask & jittered_mask(brain, rng)
    if rng.random() < 0.2:
        image, mask = remaining_skull(image, mask, rng)
    if rng.random() < 0.1:
        image, mask = scalp_plate(image, mask, rng)
    return Sample(normalise(image, mask), lesions & mask, sample.target, sample.ignore)


def is_thick(image: FloatArray, brain: BoolArray) -> bool:
    """Return whether an image is that of thick slices: along one axis neighbours differ far less than along another."""
    inner = ndimage.binary_erosion(brain, iterations=3)
    steps = [float(np.median(np.abs(np.diff(image, axis=a))[np.delete(inner, 0, axis=a)])) for a in range(3)]
    return min(steps) < THICK_STEPS * max(steps)


def real_cases(cases: Sequence[Sample], masks: Masks, seed: int) -> Iterator[Sample]:
    """Yield varied cases from real ones without end; the same seed gives the same cases.

    Parameters
    ----------
    cases : sequence of Sample
        Of the training fold; read anew at each turn, so that it may read them from files.
    masks : mapping
        Of the training fold, may be empty.
    seed : int

    Raises
    ------
    ValueError
        There are no cases.
    """
    if not len(cases):
        raise ValueError("no real cases to vary")
    names = sorted(masks)
    number = 0
    while True:
        rng = np.random.default_rng((seed, number, 1))
        index = int(rng.integers(len(cases)))
        sample, choice = cases[index], rng.random()
        if choice < MIX_SHARE and len(cases) > 1:
            other = (index + int(rng.integers(1, len(cases)))) % len(cases)
            sample = carve_mix(sample, cases[other], rng)
        elif MIX_SHARE <= choice < MIX_SHARE + PAINT_SHARE and names:
            sample = paint_lesions(sample, *masks[str(rng.choice(names))], rng)
        yield rescan(bend(sample, rng), rng)
        number += 1
