"""Heads as tissue maps on the cube of the joint model: from label maps or from the MNI152 template.

A cube has axes (k, j, i) with k towards Superior, j towards Posterior and i towards Left, 1.2 mm voxels, and is centred on
the brain.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.errors import DataSetError
from pipelines.regions.structures import FREESURFER
from pipelines.training.data_sets.cube import CUBE, SPACING_MM, lps_affine, to_cube
from pipelines.types import BoolArray, FloatArray

MNI_BRAIN_LPS = ((-66.6, 66.6), (-66.4, 99.2), (-59.2, 74.0))
"""Extent of the MNI152 brain along L, P and S, in mm: 0.5th to 99.5th percentile of its tissue's voxels."""

Labels = npt.NDArray[np.uint8]


class Tissue(IntEnum):
    """The tissues that get an intensity of their own."""

    AIR = 0
    FLUID = 1
    VENTRICLE = 2
    CORTEX = 3
    WHITE = 4
    DEEP_GREY = 5
    CEREBELLAR_CORTEX = 6
    CEREBELLAR_WHITE = 7
    BRAINSTEM = 8
    CHOROID = 9
    CAP = 10
    BRIGHT_CORTEX = 11
    BRIGHT_TRACT = 12
    SOFT = 13
    BONE = 14
    FAT = 15


_FREESURFER: dict[Tissue, tuple[int, ...]] = {
    Tissue.FLUID: (24,),
    Tissue.VENTRICLE: (4, 5, 14, 15, 43, 44, 72),
    Tissue.CORTEX: (3, 42, 62, 30),
    Tissue.WHITE: (2, 41, 85),
    Tissue.DEEP_GREY: (10, 11, 12, 13, 17, 18, 26, 28, 49, 50, 51, 52, 53, 54, 58, 60),
    Tissue.CEREBELLAR_CORTEX: (8, 47),
    Tissue.CEREBELLAR_WHITE: (7, 46),
    Tissue.BRAINSTEM: (16,),
    Tissue.CHOROID: (136, 137, 163, 164, 31, 63),
    Tissue.CAP: (25, 57),
    Tissue.BONE: (515,),
    Tissue.FAT: (516, 511),
}
CAP_MM = 3.0
"""[ours] What FreeSurfer numbers as lesions, 25 and 57, is a normal cap or rim as far as this from the ventricles, and white
matter beyond: two heads of the label maps have some 40 mL of it, their owners' lesions, where most have 1 to 6."""
_PUTAMEN = (12, 51)
_BRAIN = tuple(t for t in Tissue if Tissue.FLUID < t < Tissue.SOFT)
_TRACT_LPS = np.array(
    [[28, 25, 55], [25, 22, 30], [22, 16, 10], [15, 18, -8], [8, 25, -28], [5, 32, -50]], dtype=float
)
"""Course of the left corticospinal tract in MNI152, mm, LPS."""


@dataclass(frozen=True)
class Anatomy:
    """One head without lesions.

    Parameters
    ----------
    name : str
    labels : uint8 array, shape (k, j, i)
        Values of `Tissue`.
    brain : bool array, shape (k, j, i)
        Brain with its ventricles and the fluid between the gyri.
    ventricle_mm, cortex_mm : float32 arrays, shape (k, j, i)
        Distance to the ventricles and to the cerebral cortex.
    mni_scale, mni_origin : float64 arrays, shape (3,)
        MNI152 position in mm, LPS, is ``mni_origin + mni_scale * (i, j, k)``: extents matched, nothing turned.
    structures : uint8 array, shape (k, j, i), or None
        Values of `pipelines.regions.structures.Structure`; None for a head that is no label map.
    """

    name: str
    labels: Labels
    brain: BoolArray
    ventricle_mm: FloatArray
    cortex_mm: FloatArray
    mni_scale: npt.NDArray[np.float64]
    mni_origin: npt.NDArray[np.float64]
    structures: Labels | None = None

    def mni_axes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return MNI152 coordinates S, P, L of the cube's planes, broadcastable to (k, j, i)."""
        n = self.labels.shape[0]
        left, posterior, superior = (
            (self.mni_origin[a] + self.mni_scale[a] * np.arange(n)).astype(np.float32) for a in range(3)
        )
        return superior[:, None, None], posterior[None, :, None], left[None, None, :]


def _near(labels: Labels, tissues: tuple[Tissue, ...]) -> FloatArray:
    distance = ndimage.distance_transform_edt(~np.isin(labels, tissues), sampling=SPACING_MM)
    return np.asarray(distance, dtype=np.float32)


def _tract(superior: FloatArray, posterior: FloatArray, left: FloatArray) -> BoolArray:
    """Return both corticospinal tracts as tubes of 3.5 mm radius."""
    points = _TRACT_LPS
    along = np.argsort(points[:, 2])
    s = np.clip(superior, points[:, 2].min(), points[:, 2].max())
    centre_left = np.interp(s, points[along, 2], points[along, 0])
    centre_posterior = np.interp(s, points[along, 2], points[along, 1])
    inside = (np.abs(left) - centre_left) ** 2 + (posterior - centre_posterior) ** 2 < 3.5**2
    return np.asarray(inside & (superior <= points[:, 2].max()) & (superior >= points[:, 2].min()))


def mni_extents(brain: BoolArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return scale and origin, shape (3,), that match a brain's extents with those of the MNI152 brain.

    MNI152 position in mm, LPS, is ``origin + scale * (i, j, k)``; nothing is turned.

    Parameters
    ----------
    brain : bool array, shape (k, j, i)
        On a cube whose axes are those of MNI152; at least one voxel is true.
    """
    index = np.argwhere(brain)[:, ::-1]
    low, high = np.percentile(index, 0.5, axis=0), np.percentile(index, 99.5, axis=0)
    extent = np.array(MNI_BRAIN_LPS)
    scale = (extent[:, 1] - extent[:, 0]) / np.maximum(high - low, 1.0)
    return scale, extent[:, 0] - scale * low


def finished(
    name: str, labels: Labels, insula: BoolArray | None = None, structures: Labels | None = None
) -> Anatomy:
    """Add what depends on the whole head: brain mask, distances, the tissues that are normally bright."""
    tissue = np.isin(labels, _BRAIN)
    scale, origin = mni_extents(tissue)
    anatomy = Anatomy(
        name=name,
        labels=labels,
        brain=np.asarray(ndimage.binary_closing(np.pad(tissue, 6), iterations=5)[6:-6, 6:-6, 6:-6]),
        ventricle_mm=_near(labels, (Tissue.VENTRICLE,)),
        cortex_mm=_near(labels, (Tissue.CORTEX,)),
        mni_scale=scale,
        mni_origin=origin,
        structures=structures,
    )
    labels[(labels == Tissue.CAP) & (anatomy.ventricle_mm > CAP_MM)] = Tissue.WHITE
    superior, posterior, left = anatomy.mni_axes()
    if insula is None:
        insula = (np.abs(np.abs(left) - 36) < 9) & (np.abs(posterior) < 24) & (np.abs(superior - 3) < 18)
    cingulate = (np.abs(left) < 11) & (posterior > -50) & (posterior < 50) & (superior > -8) & (superior < 45)
    labels[(labels == Tissue.CORTEX) & (insula | cingulate)] = Tissue.BRIGHT_CORTEX
    white = (labels == Tissue.WHITE) | (labels == Tissue.BRAINSTEM)
    labels[white & _tract(superior, posterior, left)] = Tissue.BRIGHT_TRACT
    return anatomy


def from_label_map(path: Path) -> Anatomy:
    """Read a whole-head label map in FreeSurfer numbering.

    Raises
    ------
    DataSetError
        The file has no brain in that numbering.
    """
    image = nib.load(path)
    raw = np.asarray(image.dataobj).astype(np.int16)
    lps = lps_affine(image.affine)
    white = np.argwhere(np.isin(raw, _FREESURFER[Tissue.WHITE]))
    if len(white) < 50_000:
        raise DataSetError(f"{path.name} has no cerebral white matter under the FreeSurfer numbers 2 and 41")
    low, high = np.percentile(white, 0.5, axis=0), np.percentile(white, 99.5, axis=0)
    centre = lps[:3, :3] @ ((low + high) / 2) + lps[:3, 3]
    cube = to_cube(raw.astype(np.float32), lps, centre, 0).astype(np.int16)
    labels = np.where(cube > 0, np.uint8(Tissue.SOFT), np.uint8(0))
    for tissue, numbers in _FREESURFER.items():
        labels[np.isin(cube, numbers)] = tissue
    putamen = ndimage.distance_transform_edt(~np.isin(cube, _PUTAMEN), sampling=SPACING_MM)
    structures = np.zeros(cube.shape, np.uint8)
    for structure, numbers in FREESURFER.items():
        structures[np.isin(cube, numbers)] = structure
    return finished(path.name.split(".")[0], labels, np.asarray(putamen < 11), structures)


def from_template() -> Anatomy:
    """Make tissue maps from the MNI152 template that comes with nilearn.

    References
    ----------
    Fonov et al., NeuroImage 2011; the grey and white matter maps of the ICBM 152 nonlinear 2009a symmetric template.
    """
    from nilearn import datasets  # noqa: PLC0415 (its import takes a second)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grey, white, brain = (
            getattr(datasets, f"load_mni152_{part}")(resolution=1)
            for part in ("gm_template", "wm_template", "brain_mask")
        )
    centre = np.array([0.0, 17.0, 5.0])
    g, w, b = (
        to_cube(np.asarray(m.get_fdata(), np.float32), lps_affine(m.affine), centre, 1)
        for m in (grey, white, brain)
    )
    half = (CUBE - 1) / 2
    line = (np.arange(CUBE) - half) * SPACING_MM
    superior, posterior, left = (
        line[:, None, None] + centre[2],
        line[None, :, None] + centre[1],
        line[None, None, :] + centre[0],
    )
    labels = np.where(b > 0.5, np.uint8(Tissue.FLUID), np.uint8(0))
    labels[g > 0.4] = Tissue.CORTEX
    labels[(w > 0.5) & (w > g)] = Tissue.WHITE
    inside = ((left / 34) ** 2 + ((posterior - 14) / 52) ** 2 + ((superior - 10) / 24) ** 2 < 1) & (
        g + w < 0.6
    )
    # Fluid of the fissure above the callosum lies within the ellipsoid too, and apart from the ventricles.
    pieces, _ = ndimage.label(inside & (b > 0.5))
    labels[pieces == np.bincount(pieces.ravel())[1:].argmax() + 1] = Tissue.VENTRICLE
    deep = (np.abs(left) < 33) & (posterior > -22) & (posterior < 36) & (superior > -12) & (superior < 18)
    labels[(labels == Tissue.CORTEX) & deep] = Tissue.DEEP_GREY
    cerebellum = (superior < -18) & (posterior > 36) & (superior < -12 - (60 - posterior) * 0.2)
    labels[(labels == Tissue.CORTEX) & cerebellum] = Tissue.CEREBELLAR_CORTEX
    labels[(labels == Tissue.WHITE) & cerebellum] = Tissue.CEREBELLAR_WHITE
    stem = (np.abs(left) < 15) & (posterior > 12) & (posterior < 46) & (superior < -8)
    labels[(labels == Tissue.WHITE) & stem] = Tissue.BRAINSTEM
    return finished("mni152", labels)


def load_anatomies(data: Path | None, template: bool = True) -> list[Anatomy]:
    """Return the heads of ``data/head_labels`` (none without it) and of the template."""
    files = [] if data is None else sorted((data / "head_labels").glob("*.nii.gz"))
    heads = [from_label_map(path) for path in files]
    return [*heads, from_template()] if template or not heads else heads
