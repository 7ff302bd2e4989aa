"""Lesion patterns of MS and NMOSD, as a network would have found them, and the perceptron that tells them apart.

Patterns are drawn as the priors say, into the heads of the generator, without any image. What is learnt from is never the truth
but what a network of masks makes of it: small lesions lost, outlines too wide or too tight, thick slices, false lesions, and a
registration that errs.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import cc3d
import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from pipelines.brain.grid import resample
from pipelines.brain.mni_space import Alignment, coarse_grid
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.lesion_rule import is_large_enough
from pipelines.flair.lesions import LabelArray
from pipelines.flair.matthews import fluid_in_mni
from pipelines.flair.pattern.features import pattern_features
from pipelines.flair.preprocess import Cube
from pipelines.training.data_sets.cube import cube_grid
from pipelines.training.data_sets.sample import CLASSES
from pipelines.training.synthetic.anatomy import Anatomy, Tissue, load_anatomies, mni_extents
from pipelines.training.synthetic.lesions import draw_lesions, places
from pipelines.training.synthetic.priors import VOXEL_MM3
from pipelines.types import Affine, BoolArray, FloatArray

PATTERNS = 2400
"""Patients that are drawn."""
VIEWS = 2
"""Times that each is found, each time otherwise."""
EVEN_MM3, STEEPNESS = (np.log(50.0), 0.7), 0.9
"""A lesion of so much is found as often as it is missed: mean and SD over scans, of the logarithm. [ours] Of lesions that are
painted into ten real scans the mask's first network finds 3 % below 5 mm3, 24 % at 10 to 20, 61 % at 40 to 80, 89 % above 500;
fewer in the lower third of the brain."""
LOW_MM, LOW_FACTOR = -20.0, 1.7
FALSE_LESIONS = 6.0
"""Most that are expected in a brain; 3 are found in the mean of the same scans, of some 9 mm3."""
REGISTRATION_MM, REGISTRATION_SHEAR = 2.0, 0.015
"""SD of the shift, and of each element of the matrix, by which a registration errs."""
_GRID = cube_grid(np.zeros(3))


def matched(
    scale: npt.NDArray[np.float64], origin: npt.NDArray[np.float64], error: Affine | None = None
) -> Alignment:
    """Return the alignment of a cube whose extents are matched with those of MNI152; see `anatomy.mni_extents`.

    Parameters
    ----------
    error : float64 array, shape (4, 4), optional
        What a registration adds to it, in MNI152.
    """
    to_mni = np.diag([*scale, 1.0])
    to_mni[:3, 3] = origin
    if error is not None:
        to_mni = error @ to_mni
    return Alignment(_GRID.affine @ np.linalg.inv(to_mni), 0.0)


def _ball(shape: tuple[int, ...], flat: int, radius: float) -> BoolArray:
    """Return a ball of so many voxels around a voxel that is given by its flat index."""
    centre = np.unravel_index(flat, shape)
    reach = int(np.ceil(radius))
    box = tuple(slice(max(0, int(at) - reach), int(at) + reach + 1) for at in centre)
    away = [np.arange(n)[s] - at for n, s, at in zip(shape, box, centre, strict=True)]
    k, j, i = np.meshgrid(*away, indexing="ij")
    ball = np.zeros(shape, dtype=np.bool_)
    ball[box] = k**2 + j**2 + i**2 <= radius**2
    return ball


def numbered(mask: BoolArray) -> LabelArray:
    """Return the lesions of a mask on the cube, numbered; components that are too small are left out."""
    labels = cc3d.connected_components(mask, connectivity=26)
    sizes = np.bincount(labels.ravel()) * VOXEL_MM3
    small = [number for number, size in enumerate(sizes) if number and not is_large_enough(size, VOXEL_MM3)]
    labels[np.isin(labels, small)] = 0
    return np.asarray(labels, dtype=np.int32)


def features_of_cube(values: FloatArray, mask: BoolArray) -> FloatArray:
    """Return the features of a mask on a normalised cube, both (k, j, i), placed by the extents of its brain."""
    brain = np.asarray(values > BACKGROUND)
    alignment = matched(*mni_extents(brain))
    fluid = fluid_in_mni(Cube(values, brain, _GRID), alignment)
    return pattern_features(numbered(mask), _GRID, alignment, fluid)


def as_found(lesions: BoolArray, head: Anatomy, rng: np.random.Generator) -> BoolArray:
    """Return what a network of masks might find of the lesions of a head, bool, shape (k, j, i).

    A lesion is found the more probably the larger it is; how large it must be differs from scan to scan.
    """
    labels, count = cc3d.connected_components(lesions, connectivity=26, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * VOXEL_MM3
    heights = ndimage.mean(np.broadcast_to(head.mni_axes()[0], labels.shape), labels, np.arange(count + 1))
    even = np.exp(rng.normal(*EVEN_MM3)) * np.where(heights < LOW_MM, LOW_FACTOR, 1.0)
    found = rng.random(count + 1) < 1 / (1 + (even / np.maximum(sizes, VOXEL_MM3)) ** STEEPNESS)
    found[0] = False
    thick = rng.uniform(0.3, 1.2) if rng.random() < 0.6 else 0.4
    within = rng.uniform(0.3, 0.7)
    drawn = ndimage.gaussian_filter(found[labels].astype(np.float32), (thick, within, within))
    mask = drawn > rng.uniform(0.3, 0.55)
    for flat in rng.choice(np.flatnonzero(head.brain), rng.poisson(rng.uniform(0, FALSE_LESIONS))):
        mask |= _ball(head.brain.shape, int(flat), rng.uniform(0.9, 2.2))
    return np.asarray(mask & head.brain)


@lru_cache(maxsize=1)
def _heads(data: Path | None) -> list[tuple[Anatomy, dict[str, npt.NDArray[np.int32]]]]:
    return [(head, places(head)) for head in load_anatomies(data)]


def pattern(data: Path | None, seed: int, number: int) -> FloatArray:
    """Return the features of a drawn patient, found `VIEWS` times, float32, shape (VIEWS, len(NAMES)); MS and NMOSD in turn."""
    rng = np.random.default_rng((seed, number))
    heads = _heads(data)
    head, regions = heads[int(rng.integers(len(heads)))]
    lesions = draw_lesions(head, CLASSES[number % 2], regions, rng).lesions > 0  # type: ignore[arg-type]
    ventricle = head.labels == Tissue.VENTRICLE
    views = []
    for _ in range(VIEWS):
        error = np.eye(4)
        error[:3, :3] += rng.normal(0, REGISTRATION_SHEAR, (3, 3))
        error[:3, 3] = rng.normal(0, REGISTRATION_MM, 3)
        alignment = matched(head.mni_scale, head.mni_origin, error)
        fluid = resample(ventricle, _GRID, coarse_grid(), transform=alignment.mni_to_patient) > 0.5
        views.append(pattern_features(numbered(as_found(lesions, head, rng)), _GRID, alignment, fluid))
    return np.stack(views)


def drawn(data: Path | None, seed: int, numbers: range, workers: int) -> Iterator[FloatArray]:
    """Yield the `pattern` of each number, made by so many processes."""
    if workers == 1:
        yield from (pattern(data, seed, number) for number in numbers)
        return
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as processes:
        yield from processes.imap(partial(pattern, data, seed), numbers, chunksize=4)
