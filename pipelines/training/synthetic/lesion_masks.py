"""Lesion patterns of real patients, in MNI152 space, carried over to other heads."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.training.data_sets.cube import lps_affine
from pipelines.training.synthetic.anatomy import MNI_BRAIN_LPS, Anatomy, Tissue
from pipelines.types import BoolArray, FloatArray

MASK_BRAIN_LPS = ((-58.0, 59.0), (-51.0, 91.0), (-46.5, 62.5))
"""Extent of the brains that the masks of ``open_ms/lesions_mni`` belong to, along L, P and S, in mm, as `MNI_BRAIN_LPS`: mean
of the two with images. They lie in MNI152 space smaller than its template does, so that their extents are matched, too."""


_SOLID = np.array(
    [Tissue.VENTRICLE < tissue < Tissue.SOFT and tissue != Tissue.CHOROID for tissue in Tissue], dtype=bool
)
"""Tissues that a lesion may lie in: not in air, fluid, choroid plexus or outside the brain."""


def solid_tissue(anatomy: Anatomy) -> BoolArray:
    """Return where a lesion may lie, bool, shape (k, j, i)."""
    return _SOLID[anatomy.labels]


def mask_height(superior: FloatArray) -> FloatArray:
    """Return heights in MNI152, mm, as heights in the space of the real masks: extents of the brains matched."""
    low, high = MNI_BRAIN_LPS[2]
    mask_low, mask_high = MASK_BRAIN_LPS[2]
    return mask_low + (superior - low) * np.float32((mask_high - mask_low) / (high - low))


def mask_files(data: Path) -> list[Path]:
    """Return the lesion masks in a folder of sources; each is named after its patient."""
    return sorted((data / "open_ms" / "lesions_mni").glob("*.nii.gz"))


def patient_of(path: Path) -> str:
    """Return whose lesions a mask shows."""
    return path.name.removesuffix(".nii.gz")


def read_masks(
    folder: Path, leave_out: tuple[str, ...]
) -> dict[str, tuple[BoolArray, npt.NDArray[np.float64]]]:
    """Read lesion masks, (x, y, z) with their affine to MNI152 in LPS, without those of the named patients.

    The affine takes the extents of the masks' brains (`MASK_BRAIN_LPS`) to those of the template.
    """
    template, masked = np.array(MNI_BRAIN_LPS), np.array(MASK_BRAIN_LPS)
    stretch = np.eye(4)
    factor = (template[:, 1] - template[:, 0]) / (masked[:, 1] - masked[:, 0])
    stretch[:3, :3] = np.diag(factor)
    stretch[:3, 3] = template[:, 0] - factor * masked[:, 0]
    masks = {}
    for path in sorted(folder.glob("*.nii.gz")):
        name = patient_of(path)
        if name in leave_out:
            continue
        image = nib.load(path)
        lps = stretch @ lps_affine(image.affine)
        masks[name] = (np.asarray(image.dataobj) > 0, lps)
    return masks


def carried(
    mask: BoolArray,
    lps: npt.NDArray[np.float64],
    mni: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    shape: tuple[int, ...],
    rng: np.random.Generator,
) -> FloatArray:
    """Carry a real patient's lesions from MNI152 space to a head, shifted by up to 4 mm, half of them mirrored.

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
    lps : float64 array, shape (4, 4)
        Takes (x, y, z, 1) to MNI152, mm, LPS.
    mni : two float64 arrays, shape (3,)
        The head's scale and origin; see `anatomy.mni_extents`.

    Returns
    -------
    float32 array, shape (k, j, i)
        How much of each voxel is lesion, in [0, 1].
    """
    inverse = np.linalg.inv(lps)
    scale, origin = mni[0].copy(), mni[1] + rng.uniform(-4, 4, 3)
    if rng.random() < 0.5:
        origin[0], scale[0] = -origin[0], -scale[0]
    matrix = inverse[:3, :3] * scale
    offset = inverse[:3, :3] @ origin + inverse[:3, 3]
    soft = ndimage.affine_transform(mask.astype(np.float32), matrix, offset, shape[::-1], order=1)
    return np.ascontiguousarray(soft.transpose(2, 1, 0))


def transplant(
    anatomy: Anatomy, mask: BoolArray, lps: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Carry a real patient's lesions, in MNI152 space, over to a head; lesions numbered from 1, thresholds varied."""
    soft = carried(mask, lps, (anatomy.mni_scale, anatomy.mni_origin), anatomy.labels.shape, rng)
    here = (soft > rng.uniform(0.25, 0.5)) & solid_tissue(anatomy)
    numbered, _ = ndimage.label(here, np.ones((3, 3, 3)))
    return np.asarray(numbered, dtype=np.int16)
