"""Lesions that are not demyelination, drawn into a head: tumours, operated tumours, infarcts and bleeds.

[ours] They are only to be told from demyelination, so they are drawn by what makes them unlike it: volume on one side, mass
effect, fluid where none belongs, a vascular territory with its cortex. Their volumes and signals are ours; no patient's image
is behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.synthetic.anatomy import Tissue
from pipelines.training.synthetic.artefacts import smooth_field
from pipelines.training.synthetic.generator import Head
from pipelines.types import BoolArray, FloatArray

Kind = Literal["tumour", "operated tumour", "infarct", "old infarct", "bleed"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
Place = tuple[float, float, float]
TERRITORIES: Final[Mapping[str, tuple[Place, tuple[float, float]]]] = {
    "middle cerebral artery": ((46.0, 5.0, 18.0), (26.0, 44.0)),
    "anterior cerebral artery": ((9.0, -30.0, 35.0), (20.0, 30.0)),
    "posterior cerebral artery": ((16.0, 74.0, 6.0), (18.0, 28.0)),
    "lenticulostriate arteries": ((24.0, -2.0, 8.0), (13.0, 17.0)),
    "cerebellar arteries": ((24.0, 62.0, -38.0), (15.0, 22.0)),
}
"""Centre in MNI152, mm, L (of either side) P S, and radii, mm, of the regions that arteries supply, roughly."""
SURFACE_MM = 8.0
"""Below the surface of the brain mass effect grows to its full extent over so much: the skull does not move."""
DARKEST = 0.05
_WHITE = (Tissue.WHITE, Tissue.BRIGHT_TRACT, Tissue.CAP)
_SOLID = tuple(tissue for tissue in Tissue if Tissue.VENTRICLE < tissue < Tissue.SOFT)
_HINDBRAIN = (Tissue.CEREBELLAR_CORTEX, Tissue.CEREBELLAR_WHITE, Tissue.BRAINSTEM)


@dataclass(frozen=True)
class Layer:
    """Part of a lesion with a signal of its own.

    Parameters
    ----------
    inside : bool array, shape (k, j, i)
    value : float
        White matter is 1.
    """

    inside: BoolArray
    value: float


@dataclass(frozen=True)
class OtherLesion:
    """Lesion of another kind, as it is painted.

    Parameters
    ----------
    kind : Kind
    layers : tuple of Layer
        Painted one over the other.
    cavity : bool array, shape (k, j, i)
        What of it is fluid.
    """

    kind: Kind
    layers: tuple[Layer, ...]
    cavity: BoolArray

    @property
    def inside(self) -> BoolArray:
        """All of it."""
        return np.asarray(np.any([layer.inside for layer in self.layers], axis=0))

    def with_contrast(self, factor: float) -> OtherLesion:
        """Return it with so many times the contrast to white matter; nothing becomes darker than fluid."""
        layers = (replace(of, value=max(1 + factor * (of.value - 1), DARKEST)) for of in self.layers)
        return replace(self, layers=tuple(layers))

    def painted(self, image: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return an image, white matter 1, with the lesion; its edges blurred, its signal uneven."""
        uneven = 1 + np.float32(rng.uniform(0.02, 0.1)) * smooth_field(image.shape, 26, rng)
        sigma = float(rng.uniform(0.5, 1.0))
        out = image
        for layer in self.layers:
            share = _blurred(layer.inside, sigma)
            out = out * (1 - share) + share * np.maximum(np.float32(layer.value) * uneven, 0)
        return np.asarray(out, dtype=np.float32)


def draw_other(head: Head, kind: Kind, rng: np.random.Generator) -> tuple[Head, OtherLesion]:
    """Draw a lesion of another kind into a head.

    Parameters
    ----------
    head : Head
    kind : Kind

    Returns
    -------
    Head
        With the structures around the lesion pushed away, or drawn to it.
    OtherLesion
    """
    return _DRAWN[kind](head, rng)


def _tumour(head: Head, rng: np.random.Generator) -> tuple[Head, OtherLesion]:
    """Draw a tumour: solid, with a dead or fluid centre, or small with much oedema."""
    centre = _voxel_of(head, _WHITE if rng.random() < 0.85 else (Tissue.CEREBELLAR_WHITE,), rng)
    style = str(rng.choice(("ring", "solid", "cyst", "metastasis")))
    volume_ml = float(np.exp(rng.uniform(*np.log((2.0, 8.0) if style == "metastasis" else (8.0, 60.0)))))
    oedema_mm = 0.0 if style == "solid" and rng.random() < 0.6 else rng.uniform(8, 26)
    far, radius_mm = _ball(head.labels.shape, centre, volume_ml, rng)
    head = pushed(head, centre, radius_mm + oedema_mm / 3, rng.uniform(0.3, 0.9) * rng.uniform(1, 2.5))
    solid = np.isin(head.labels, _SOLID)
    core = (far < radius_mm) & head.brain
    layers = [_oedema(head, far, radius_mm, oedema_mm, rng)] if oedema_mm else []
    layers.append(Layer(core & (solid | (far < 0.8 * radius_mm)), rng.uniform(1.1, 1.8)))
    if style == "solid":
        layers[-1] = replace(layers[-1], value=rng.uniform(1.3, 1.8))
    centre_share = {"ring": rng.uniform(0.4, 0.75), "cyst": rng.uniform(0.6, 0.85)}.get(style, 0.0)
    inner = core & (far < centre_share * radius_mm)
    if centre_share:
        layers.append(Layer(inner, rng.uniform(0.2, 0.6) if style == "cyst" else rng.uniform(0.5, 1.2)))
    return head, OtherLesion("tumour", tuple(layers), inner if style == "cyst" else np.zeros_like(inner))


def _operated(head: Head, rng: np.random.Generator) -> tuple[Head, OtherLesion]:
    """Draw the cavity that an operation left, open to the surface, its rim bright, often with oedema beside it."""
    centre = _voxel_of(head, (Tissue.CORTEX,), rng, above_mm=-20)
    far, radius_mm = _ball(head.labels.shape, centre, float(np.exp(rng.uniform(*np.log((6.0, 60.0))))), rng)
    cavity = (far < radius_mm) & head.brain
    rim_mm = rng.uniform(1.5, 6)
    rim = (far < radius_mm + rim_mm) & np.isin(head.labels, _SOLID)
    layers = []
    if rng.random() < 0.6:
        layers.append(_oedema(head, far, radius_mm, rng.uniform(6, 22), rng))
    layers += [Layer(rim, rng.uniform(1.15, 1.7)), Layer(cavity, rng.uniform(0.1, 0.6))]
    return head, OtherLesion("operated tumour", tuple(layers), cavity)


def _territory(head: Head, rng: np.random.Generator) -> tuple[BoolArray, FloatArray, float]:
    """Draw the part of a territory that is lost: where it is, how far each voxel is from its centre, and its radius, mm."""
    (left, posterior, superior), (least, most) = TERRITORIES[str(rng.choice(list(TERRITORIES)))]
    below = superior < -25
    side = 1.0 if rng.random() < 0.5 else -1.0
    along = head.at.left * np.float32(side)
    shift = rng.normal(0, 5, 3)
    far = np.sqrt(
        (along - np.float32(left + shift[0])) ** 2
        + (head.at.posterior - np.float32(posterior + shift[1])) ** 2
        + (head.at.superior - np.float32(superior + shift[2])) ** 2
    )
    radius_mm = float(rng.uniform(least, most))
    far = far + np.float32(0.12 * radius_mm) * smooth_field(head.labels.shape, int(rng.integers(10, 20)), rng)
    hind = np.isin(head.labels, _HINDBRAIN)
    inside = (far < radius_mm) & (along > 1) & head.brain & (hind if below else ~hind)
    return np.asarray(inside), np.asarray(far, dtype=np.float32), radius_mm


def _infarct(head: Head, rng: np.random.Generator) -> tuple[Head, OtherLesion]:
    """Draw an infarct of some days or weeks: cortex and white matter of a territory alike, and bright."""
    inside, _, _ = _territory(head, rng)
    lost = inside & np.isin(head.labels, _SOLID)
    grey = lost & ~np.isin(head.labels, _WHITE)
    value = rng.uniform(1.3, 1.8)
    layers = (Layer(lost, value), Layer(grey, value * rng.uniform(0.95, 1.15)))
    return head, OtherLesion("infarct", layers, np.zeros_like(lost))


def _old_infarct(head: Head, rng: np.random.Generator) -> tuple[Head, OtherLesion]:
    """Draw an old infarct: fluid in place of a territory's core, the rest of it scarred and bright."""
    inside, far, radius_mm = _territory(head, rng)
    lost = inside & np.isin(head.labels, _SOLID)
    cavity = inside & (far < rng.uniform(0.6, 0.9) * radius_mm)
    layers = (Layer(lost, rng.uniform(1.2, 1.7)), Layer(cavity, rng.uniform(0.1, 0.6)))
    return head, OtherLesion("old infarct", layers, cavity)


def _bleed(head: Head, rng: np.random.Generator) -> tuple[Head, OtherLesion]:
    """Draw a bleed: darker than white matter at first, far brighter after days; oedema around it."""
    where = rng.random()
    tissue = (Tissue.DEEP_GREY,) if where < 0.45 else _WHITE if where < 0.9 else (Tissue.CEREBELLAR_WHITE,)
    centre = _voxel_of(head, tissue, rng)
    far, radius_mm = _ball(head.labels.shape, centre, float(np.exp(rng.uniform(*np.log((5.0, 60.0))))), rng)
    head = pushed(head, centre, radius_mm, rng.uniform(0.5, 0.9) * rng.uniform(1, 2))
    core = (far < radius_mm) & head.brain
    value = rng.uniform(0.3, 0.8) if rng.random() < 0.5 else rng.uniform(1.4, 2.6)
    layers = [_oedema(head, far, radius_mm, rng.uniform(3, 12), rng), Layer(core, value)]
    if rng.random() < 0.5:
        rim = core & (far > radius_mm - rng.uniform(1.5, 3))
        layers.append(Layer(rim, rng.uniform(0.2, 0.7)))
    return head, OtherLesion("bleed", tuple(layers), np.zeros_like(core))


_DRAWN: Final[Mapping[Kind, Callable[[Head, np.random.Generator], tuple[Head, OtherLesion]]]] = {
    "tumour": _tumour,
    "operated tumour": _operated,
    "infarct": _infarct,
    "old infarct": _old_infarct,
    "bleed": _bleed,
}


def pushed(head: Head, centre: npt.NDArray[np.intp], radius_mm: float, swelling: float) -> Head:
    """Return a head whose structures a ball has pushed away: their volume is kept, and the surface of the brain stays.

    Parameters
    ----------
    centre : integer array, shape (3,)
        Voxel (k, j, i).
    swelling : float
        Volume that came in, over that of the ball; more than 1 where a hemisphere leaves no other way.
    """
    shape = head.labels.shape
    offsets = _offsets_mm(shape, centre)
    far = np.sqrt(sum(part**2 for part in offsets))
    came = np.float32(swelling * radius_mm**3)
    before = np.cbrt(np.maximum(far**3 - came, 0))
    depth = np.clip(_depth_mm(head.brain) / np.float32(SURFACE_MM), 0, 1)
    keep = 1 - (1 - before / np.maximum(far, 1e-3)) * depth * (far > radius_mm / 2)
    index = [
        np.clip(np.rint(c + part * keep / SPACING_MM), 0, n - 1).astype(np.intp)
        for c, part, n in zip(centre, offsets, shape, strict=True)
    ]
    flat = np.ravel_multi_index(tuple(index), shape)
    moved = {name: getattr(head.at, name).ravel()[flat] for name in ("ventricle_mm", "superior", "posterior")}
    return replace(
        head,
        labels=head.labels.ravel()[flat],
        lesions=head.lesions.ravel()[flat],
        at=replace(head.at, **moved, left=head.at.left.ravel()[flat]),
        structures=None if head.structures is None else head.structures.ravel()[flat],
    )


def _oedema(
    head: Head, far: FloatArray, radius_mm: float, reach_mm: float, rng: np.random.Generator
) -> Layer:
    """Return the oedema around a core: along the white matter, in fingers."""
    fingers = 0.75 + 0.3 * smooth_field(far.shape, int(rng.integers(12, 24)), rng)
    where = np.isin(head.labels, (*_WHITE, Tissue.CEREBELLAR_WHITE))
    return Layer(np.asarray((far < radius_mm + reach_mm * fingers) & where), rng.uniform(1.3, 1.75))


def _voxel_of(
    head: Head, tissue: tuple[Tissue, ...], rng: np.random.Generator, above_mm: float = -np.inf
) -> npt.NDArray[np.intp]:
    """Draw a voxel of some tissues, off the midline."""
    there = np.isin(head.labels, tissue) & (np.abs(head.at.left) > 10) & (head.at.superior > above_mm)
    return np.array(np.unravel_index(rng.choice(np.flatnonzero(there)), there.shape))


def _ball(
    shape: tuple[int, ...], centre: npt.NDArray[np.intp], volume_ml: float, rng: np.random.Generator
) -> tuple[FloatArray, float]:
    """Return how far voxels are from the centre of an uneven ball, and its radius, mm."""
    radius_mm = (3 * volume_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    ratios = np.exp(rng.normal(0, 0.15, 3))
    ratios /= np.prod(ratios) ** (1 / 3)
    offsets = _offsets_mm(shape, centre)
    far = np.sqrt(sum((part / np.float32(r)) ** 2 for part, r in zip(offsets, ratios, strict=True)))
    wave = smooth_field(shape, int(rng.integers(12, 22)), rng)
    return np.asarray(far + np.float32(rng.uniform(0.05, 0.18) * radius_mm) * wave, np.float32), radius_mm


def _offsets_mm(shape: tuple[int, ...], centre: npt.NDArray[np.intp]) -> list[FloatArray]:
    axes = [(np.arange(n, dtype=np.float32) - c) * SPACING_MM for n, c in zip(shape, centre, strict=True)]
    return [np.asarray(axis, dtype=np.float32) for axis in np.meshgrid(*axes, indexing="ij", sparse=True)]


def _depth_mm(brain: BoolArray) -> FloatArray:
    """Return about how deep voxels lie below the surface of the brain, mm, up to some 10."""
    return _blurred(brain, 6.0) * 24 - 12


def _blurred(inside: BoolArray, sigma_voxels: float) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(inside.astype(np.float32), sigma_voxels), dtype=np.float32)
