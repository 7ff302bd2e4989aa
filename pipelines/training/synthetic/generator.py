"""Synthetic FLAIR cases on the cube of the joint model: anatomy, lesions, deformation, contrast, scan, normalisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.flair.intensity import normalise
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.synthetic.anatomy import Anatomy, Tissue, load_anatomies
from pipelines.training.synthetic.artefacts import (
    bent_coordinates,
    jittered_mask,
    remaining_skull,
    scalp_plate,
)
from pipelines.training.synthetic.contrast import FLAIR_ORDER_SHARE, draw_acquisition, paint, scan
from pipelines.training.synthetic.contrast import drawn as seen
from pipelines.training.synthetic.lesion_masks import read_masks, transplant
from pipelines.training.synthetic.lesions import Drawn, draw_lesions, places
from pipelines.training.synthetic.normal_brightness import Position
from pipelines.training.synthetic.priors import KINDS, Label
from pipelines.types import BoolArray, FloatArray

TRANSPLANT_SHARE = 0.4
"""Share of cases with a real patient's lesion pattern, where masks are at hand; they carry no class label."""

NONE_SHARE = 0.3
"""Share of cases without lesions among those from priors [ours]. With few of them a network learns that every head has lesions,
and draws some where noise and contrast leave doubt."""

SKULL_SHARE = 0.25
"""Share of cases with patches of skull or scalp left at the border of the brain mask."""

PLATE_SHARE = 0.1
"""Share of cases with a plate of scalp left in the brain mask: deepbet leaves one in two of ten real 1.5 T scans."""

SPREAD_VOXELS = 8
"""So far beyond a lesion its truth may reach: the distance of the thickest slices."""

WIDE_SHARE, MOST_WIDENING_MM = 0.35, 4.5
"""Share of heads whose ventricles are widened, and by how much at most their walls move outwards."""


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
    kinds : uint8 array, shape (k, j, i), optional
        1 + the index in `priors.KINDS` where there are lesions; None where they are a real pattern.
    structures : uint8 array, shape (k, j, i), optional
        Values of `Structure`, 0 outside the brain mask; None for a head without them.
    planted : bool array, shape (k, j, i), optional
        What was planted beside the lesions; see `Generator.case`.
    """

    image: FloatArray
    brain: BoolArray
    lesions: BoolArray
    label: Label
    anatomy: str
    kinds: npt.NDArray[np.uint8] | None = None
    structures: npt.NDArray[np.uint8] | None = None
    planted: BoolArray | None = None

    def network_input(self) -> FloatArray:
        """Return the normalised volume, shape (k, j, i)."""
        return normalise(self.image, self.brain)


class Planted(Protocol):
    """Something beside the lesions of MS and NMOSD that is painted into a head."""

    @property
    def inside(self) -> BoolArray: ...  # noqa: D102
    def painted(self, image: FloatArray, rng: np.random.Generator) -> FloatArray: ...  # noqa: D102


Plant = Callable[["Head", np.random.Generator], tuple["Head", Planted]]
"""Draws it, and returns the head as it lies around it."""


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
    flair_order_share : float
        See `contrast.paint`; 1 draws nothing but FLAIR.
    wide_share, most_widening_mm : float
        See `deform`.
    """

    anatomies: list[Anatomy]
    masks: dict[str, tuple[BoolArray, npt.NDArray[np.float64]]] = field(default_factory=dict)
    none_share: float = NONE_SHARE
    flair_order_share: float = FLAIR_ORDER_SHARE
    wide_share: float = WIDE_SHARE
    most_widening_mm: float = MOST_WIDENING_MM
    _places: dict[str, dict[str, npt.NDArray[np.int32]]] = field(default_factory=dict)

    def case(self, rng: np.random.Generator, label: Label | None = None, plant: Plant | None = None) -> Case:
        """Draw one case; a given label excludes real patterns, and ``plant`` adds something to it."""
        anatomy = self.anatomies[int(rng.integers(len(self.anatomies)))]
        if self.masks and label is None and rng.random() < TRANSPLANT_SHARE:
            mask, lps = self.masks[str(rng.choice(sorted(self.masks)))]
            chosen: Label = "none"
            drawn = Drawn(transplant(anatomy, mask, lps, rng), [])
        else:
            chosen = label or (
                "none" if rng.random() < self.none_share else "MS" if rng.random() < 0.5 else "NMOSD"
            )
            if anatomy.name not in self._places:
                self._places[anatomy.name] = places(anatomy)
            drawn = draw_lesions(anatomy, chosen, self._places[anatomy.name], rng)
        return self._scanned(anatomy, drawn, chosen, rng, plant)

    def _scanned(
        self, anatomy: Anatomy, drawn: Drawn, label: Label, rng: np.random.Generator, plant: Plant | None
    ) -> Case:
        head = deform(
            anatomy, drawn.lesions, rng, wide_share=self.wide_share, most_widening_mm=self.most_widening_mm
        )
        planted = None
        if plant is not None:
            head, planted = plant(head, rng)
        painted = paint(head.labels, head.lesions, rng, self.flair_order_share, head.at)
        before = painted.image if planted is None else planted.painted(painted.image, rng)
        acquisition = draw_acquisition(rng)
        image = scan(before, acquisition, rng)
        if not (head.labels >= Tissue.SOFT).any():
            image *= ndimage.binary_dilation(head.brain, iterations=2)
        mask = jittered_mask(head.brain, rng)
        if rng.random() < SKULL_SHARE:
            image, mask = remaining_skull(image, mask, rng)
        if rng.random() < PLATE_SHARE:
            image, mask = scalp_plate(image, mask, rng)
        truth = seen(painted.share, acquisition.slices) & mask
        patterned = head.lesions.any() and not drawn.kinds
        kinds = None if patterned else kinds_of(head.lesions, drawn.kinds, truth)
        structures = None if head.structures is None else np.where(mask, head.structures, np.uint8(0))
        other = None if planted is None else planted.inside
        return Case(image, mask, truth, label, anatomy.name, kinds, structures, other)

    def cases(self, seed: int) -> Iterator[Case]:
        """Yield cases without end; the same seed gives the same cases."""
        number = 0
        while True:
            yield self.case(np.random.default_rng((seed, number)))
            number += 1


def make_generator(
    data: Path | None, leave_out: tuple[str, ...] = (), *, labelled: bool = False
) -> Generator:
    """Return a generator from ``data`` (``head_labels``, ``open_ms/lesions_mni``), or from the MNI152 template alone.

    With ``labelled`` each case is of MS or NMOSD: what has no class teaches a network of classes nothing.
    """
    if labelled:
        return Generator(load_anatomies(data), none_share=0.0)
    masks = {} if data is None else read_masks(data / "open_ms" / "lesions_mni", leave_out)
    return Generator(load_anatomies(data), masks)


@dataclass(frozen=True)
class Head:
    """A head with its lesions as it lies in the cube.

    Parameters
    ----------
    labels : uint8 array, shape (k, j, i)
        Values of `Tissue`.
    lesions : int16 array, shape (k, j, i)
        0, or the lesion's number.
    brain : bool array, shape (k, j, i)
    at : Position
    structures : uint8 array, shape (k, j, i), optional
        Values of `Structure`.
    """

    labels: npt.NDArray[np.uint8]
    lesions: npt.NDArray[np.int16]
    brain: BoolArray
    at: Position
    structures: npt.NDArray[np.uint8] | None = None


def deform(
    anatomy: Anatomy,
    lesions: npt.NDArray[np.int16],
    rng: np.random.Generator,
    *,
    wide_share: float = WIDE_SHARE,
    most_widening_mm: float = MOST_WIDENING_MM,
) -> Head:
    """Turn, scale, shear and bend a head with its lesions, and widen its ventricles in some; see `bent_coordinates`.

    Parameters
    ----------
    lesions : int16 array, shape (k, j, i)
        0, or the lesion's number.
    wide_share : float
        Share of heads whose ventricles are widened.
    most_widening_mm : float
        So far their walls move outwards at most.
    """
    shape = anatomy.labels.shape
    where = bent_coordinates(shape, rng)
    if rng.random() < wide_share:
        where = _towards_ventricles(where, anatomy.ventricle_mm, rng.uniform(1.0, most_widening_mm))
    flat = _nearest(where, shape)
    position = [
        np.asarray(anatomy.mni_origin[axis] + anatomy.mni_scale[axis] * where[2 - axis], dtype=np.float32)
        for axis in range(3)
    ]
    at = Position(anatomy.ventricle_mm.ravel()[flat], position[2], position[1], position[0])
    structures = None if anatomy.structures is None else anatomy.structures.ravel()[flat]
    return Head(
        anatomy.labels.ravel()[flat], lesions.ravel()[flat], anatomy.brain.ravel()[flat], at, structures
    )


def _nearest(where: list[FloatArray], shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Return the flat index of the voxel nearest to each place."""
    index = [np.clip(np.rint(c).astype(np.int32), 0, n - 1) for c, n in zip(where, shape, strict=True)]
    return np.ravel_multi_index(tuple(index), shape)


def _towards_ventricles(
    where: list[FloatArray], ventricle_mm: FloatArray, widening_mm: float
) -> list[FloatArray]:
    """Return places moved towards the ventricles, less with distance from them, so that they become wider."""
    flat = _nearest(where, ventricle_mm.shape)
    move = (widening_mm / SPACING_MM) * np.exp(-ventricle_mm / np.float32(12))
    away = np.gradient(ndimage.gaussian_filter(ventricle_mm, 1.0))
    return [
        c - (move * slope * np.float32(1 / SPACING_MM)).ravel()[flat].reshape(c.shape)
        for c, slope in zip(where, away, strict=True)
    ]


def kinds_of(lesions: npt.NDArray[np.int16], kinds: list[str], truth: BoolArray) -> npt.NDArray[np.uint8]:
    """Return 1 + the index in `priors.KINDS` of each voxel's lesion, 0 without one.

    Parameters
    ----------
    lesions : int16 array, shape (k, j, i)
        Numbers of the lesions.
    kinds : list of str
        That of lesion 1 first.
    truth : bool array, shape (k, j, i)
        As it was drawn, on thick slices some voxels beyond the lesion: such a voxel has the kind of the nearest one.
    """
    table = np.array([0, *(1 + KINDS.index(kind) for kind in kinds)], np.uint8)
    known = table[lesions]
    left = truth & (known == 0)
    for _ in range(SPREAD_VOXELS):
        if not left.any():
            break
        known = np.where(left, ndimage.grey_dilation(known, size=(3, 3, 3)), known)
        left = truth & (known == 0)
    return np.where(truth, known, 0).astype(np.uint8)
