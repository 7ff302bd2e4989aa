"""Synthetic FLAIR cases on the cube of the joint model: anatomy, lesions, deformation, contrast, scan, normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.flair.intensity import normalise
from pipelines.training.anatomy import Anatomy, Tissue, load_anatomies
from pipelines.training.contrast import draw_acquisition, paint, scan, smooth_field
from pipelines.training.priors import Label, draw_lesions, places, read_masks, transplant
from pipelines.types import BoolArray, FloatArray

TRANSPLANT_SHARE = 0.4
"""Share of cases with a real patient's lesion pattern, where masks are at hand; they carry no class label."""

RIM = 0.6
"""Normalised intensity above which a voxel beside a lesion is taken in: 1.12 times the brain's mode."""


@dataclass(frozen=True)
class Case:
    """One synthetic FLAIR.

    Parameters
    ----------
    image : float32 array, shape (k, j, i)
        As scanned: white matter about 1, unstripped as far as the anatomy has a head.
    brain : bool array, shape (k, j, i)
        The brain mask with the errors that a brain extraction makes.
    lesions : bool array, shape (k, j, i)
    label : "MS", "NMOSD" or "none"
        "none" also where the lesions are a real pattern, whose disease must not be told from its making.
    anatomy : str
    """

    image: FloatArray
    brain: BoolArray
    lesions: BoolArray
    label: Label
    anatomy: str

    def network_input(self) -> FloatArray:
        """Return the normalised volume, shape (k, j, i)."""
        return normalise(self.image, self.brain)


@dataclass
class Generator:
    """Makes cases on the fly.

    Parameters
    ----------
    anatomies : list of Anatomy
    masks : mapping of patient to (bool array (x, y, z), LPS affine)
        Real lesion patterns in MNI152 space; empty: priors only.
    none_share : float
        Share of cases without lesions among those from priors.
    """

    anatomies: list[Anatomy]
    masks: dict[str, tuple[BoolArray, npt.NDArray[np.float64]]] = field(default_factory=dict)
    none_share: float = 0.08
    _places: dict[str, dict[str, npt.NDArray[np.int32]]] = field(default_factory=dict)

    def case(self, rng: np.random.Generator, label: Label | None = None) -> Case:
        """Draw one case; a given label excludes real patterns."""
        anatomy = self.anatomies[int(rng.integers(len(self.anatomies)))]
        if self.masks and label is None and rng.random() < TRANSPLANT_SHARE:
            mask, lps = self.masks[str(rng.choice(sorted(self.masks)))]
            chosen: Label = "none"
            lesions = transplant(anatomy, mask, lps, rng)
        else:
            chosen = label or (
                "none" if rng.random() < self.none_share else "MS" if rng.random() < 0.5 else "NMOSD"
            )
            if anatomy.name not in self._places:
                self._places[anatomy.name] = places(anatomy)
            lesions = draw_lesions(anatomy, chosen, self._places[anatomy.name], rng)
        return self._scanned(anatomy, lesions, chosen, rng)

    @staticmethod
    def _scanned(
        anatomy: Anatomy, lesions: npt.NDArray[np.int16], label: Label, rng: np.random.Generator
    ) -> Case:
        labels, lesions, brain = deform(anatomy, lesions, rng)
        painted = paint(labels, lesions, rng)
        image = scan(painted, draw_acquisition(rng), rng)
        if not (labels >= Tissue.SOFT).any():
            image *= ndimage.binary_dilation(brain, iterations=2)
        mask = extraction(brain, rng)
        return Case(image, mask, outline(lesions > 0, normalise(image, mask)), label, anatomy.name)

    def cases(self, seed: int) -> Iterator[Case]:
        """Yield cases without end; the same seed gives the same cases."""
        number = 0
        while True:
            yield self.case(np.random.default_rng((seed, number)))
            number += 1


def make_generator(data: Path | None, leave_out: tuple[str, ...] = ()) -> Generator:
    """Return a generator from ``data`` (``head_labels``, ``open_ms/lesions_mni``), or from the MNI152 template alone."""
    masks = {} if data is None else read_masks(data / "open_ms" / "lesions_mni", leave_out)
    return Generator(load_anatomies(data), masks)


def deform(
    anatomy: Anatomy, lesions: npt.NDArray[np.int16], rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int16], BoolArray]:
    """Turn, scale, shear and bend a head: rotation 12 degrees, scale 0.12, shear 0.012 (SD or range), elastic 3 mm."""
    shape = anatomy.labels.shape
    angles = np.deg2rad(rng.uniform(-12, 12, 3) * (rng.random() < 0.7))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    matrix = matrix @ np.diag(rng.uniform(0.9, 1.14, 3)) @ (np.eye(3) + rng.normal(0, 0.012, (3, 3)))
    if rng.random() < 0.5:
        matrix[:, 2] *= -1
    centre = (np.array(shape) - 1) / 2
    offset = centre - matrix @ (centre + rng.uniform(-4, 4, 3))
    nodes = int(rng.integers(4, 9))
    amplitude = rng.uniform(0, 2.2)
    axes = np.meshgrid(*[np.arange(n, dtype=np.float32) for n in shape], indexing="ij", sparse=True)
    index = []
    for row in range(3):
        line = sum(np.float32(matrix[row, a]) * axes[a] for a in range(3)) + np.float32(offset[row])
        moved = np.rint(line + amplitude * smooth_field(shape, nodes, rng)).astype(np.int32)
        index.append(np.clip(moved, 0, shape[row] - 1))
    flat = np.ravel_multi_index(tuple(index), shape)
    return anatomy.labels.ravel()[flat], lesions.ravel()[flat], anatomy.brain.ravel()[flat]


def outline(lesions: BoolArray, image: FloatArray) -> BoolArray:
    """Return the mask that an expert would draw: lesions with the bright voxels that touch them.

    Slices and blur carry a lesion's light over its border, and experts take that in.

    Parameters
    ----------
    lesions : bool array, shape (k, j, i)
    image : float32 array, shape (k, j, i)
        Normalised.
    """
    grown = ndimage.binary_dilation(lesions)
    return np.asarray(lesions | (grown & (image > RIM)))


def extraction(brain: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Return a brain mask with a jittered border: up to 2.5 mm too tight here, up to 4 mm too wide there."""
    soft = ndimage.gaussian_filter(brain.astype(np.float32), 2.0)
    level = rng.uniform(0.25, 0.6) + rng.uniform(0, 0.12) * smooth_field(brain.shape, 10, rng)
    return np.asarray(soft > np.clip(level, 0.06, 0.85))
