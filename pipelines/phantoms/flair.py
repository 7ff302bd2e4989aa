"""A FLAIR series of a synthetic head with known lesions, as a scanner would have taken it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from pipelines.brain.grid import Grid
from pipelines.phantoms.head import WHITE, Head, mni_head
from pipelines.phantoms.lesions import LesionLoad, lesion_amount
from pipelines.types import Affine, BoolArray, FloatArray, Volume

LESION_SIGNAL = (1.37, 1.43)
"""Of white matter."""
WHITE_SIGNAL = 420.0
"""Stored value of white matter."""
NOISE_SD = 0.045
TEXTURE_SD = 0.03
BIAS = 0.12
"""Largest relative shading."""


@dataclass(frozen=True)
class Acquisition:
    """Acquisition of a phantom: how it is scanned.

    Parameters
    ----------
    shape_kji : three integers
        Slices, rows, columns.
    spacing_mm : three floats
        Along k, j and i.
    plane : str
        "axial" or "sagittal".
    attributes : dict
        Acquisition values under their DICOM keywords.
    """

    shape_kji: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    plane: str
    attributes: dict[str, object]

    @property
    def axes(self) -> npt.NDArray[np.float64]:
        """Unit vectors of i, j and k as columns, LPS."""
        if self.plane == "sagittal":
            return np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
        return np.eye(3)


_SCANNER: dict[str, object] = {
    "Modality": "MR",
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Phantom",
    "MagneticFieldStrength": 3.0,
    "ImagingFrequency": 123.2,
    "ImageType": ("ORIGINAL", "PRIMARY", "M", "ND"),
    "PatientPosition": "HFS",
    "BodyPartExamined": "BRAIN",
    "NumberOfAverages": 1.0,
    "ImagedNucleus": "1H",
}

AXIAL_2D = Acquisition(
    (48, 256, 256),
    (3.0, 0.9, 0.9),
    "axial",
    {
        **_SCANNER,
        "ScanningSequence": ("SE", "IR"),
        "SequenceVariant": ("SK", "SP", "MP"),
        "ScanOptions": "PFP",
        "MRAcquisitionType": "2D",
        "SequenceName": "*tir2d1_16",
        "ProtocolName": "t2_tirm_tra_dark-fluid",
        "SeriesDescription": "t2_tirm_tra_dark-fluid phantom",
        "RepetitionTime": 9000.0,
        "EchoTime": 90.0,
        "InversionTime": 2500.0,
        "EchoTrainLength": 16,
        "FlipAngle": 150.0,
        "PixelBandwidth": 220.0,
        "SliceThickness": 3.0,
        "SpacingBetweenSlices": 3.0,
    },
)
SAGITTAL_3D = Acquisition(
    (176, 240, 240),
    (1.0, 1.0, 1.0),
    "sagittal",
    {
        **_SCANNER,
        "ScanningSequence": ("SE", "IR"),
        "SequenceVariant": ("SK", "SP", "MP"),
        "ScanOptions": "IR",
        "MRAcquisitionType": "3D",
        "SequenceName": "*spcir_278",
        "ProtocolName": "t2_space_dark-fluid_sag_p2_iso",
        "SeriesDescription": "t2_space_dark-fluid_sag_p2_iso phantom",
        "RepetitionTime": 5000.0,
        "EchoTime": 388.0,
        "InversionTime": 1800.0,
        "EchoTrainLength": 278,
        "FlipAngle": 120.0,
        "PixelBandwidth": 750.0,
        "SliceThickness": 1.0,
    },
)


@dataclass(frozen=True)
class FlairPhantom:
    """A synthetic FLAIR and its truth.

    Parameters
    ----------
    volume : Volume
        Whole numbers from 0, with the attributes of its acquisition.
    lesions : bool array, shape (k, j, i)
        Voxels of which more than half is lesion.
    brain : bool array, shape (k, j, i)
    mni_to_patient : float64 array, shape (4, 4)
        MNI point, mm, LPS, to patient position, mm, LPS.
    """

    volume: Volume
    lesions: BoolArray
    brain: BoolArray
    mni_to_patient: Affine


def _pose(rng: np.random.Generator) -> Affine:
    """Return a head's place in the scanner: a little smaller than the template, tilted and off centre."""
    pitch, roll, yaw = np.deg2rad(rng.uniform(-7.0, 7.0, 3))
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = about_z @ about_y @ about_x @ np.diag(rng.uniform(0.88, 0.97, 3))
    pose[:3, 3] = rng.uniform(-6.0, 6.0, 3)
    return pose


def _laid_again(pose: Affine, rng: np.random.Generator) -> Affine:
    """Return the place of the same head on another day: a little turned and shifted."""
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-3.0, 3.0, 3), degrees=True).as_matrix()
    moved[:3, 3] = rng.uniform(-4.0, 4.0, 3)
    return np.asarray(moved @ pose)


def _field_of_view(acquisition: Acquisition, pose: Affine, head: Head) -> Grid:
    """Return the grid of an acquisition that is centred on the brain."""
    centre_mni = head.grid.positions_lps(np.argwhere(head.brain).mean(axis=0))
    centre = pose[:3, :3] @ centre_mni + pose[:3, 3]
    steps = acquisition.axes * np.array(acquisition.spacing_mm[::-1])
    middle_ijk = (np.array(acquisition.shape_kji[::-1]) - 1) / 2.0
    affine = np.eye(4)
    affine[:3, :3] = steps
    affine[:3, 3] = centre - steps @ middle_ijk
    return Grid(acquisition.shape_kji, affine)


def _scan(maps: list[FloatArray], head: Head, grid: Grid, pose: Affine) -> list[FloatArray]:
    """Return each map averaged over the thickness of each slice; voxels are points in the plane."""
    parts = max(1, round(grid.spacing_mm[0]))
    to_head = np.linalg.inv(head.grid.affine) @ np.linalg.inv(pose) @ grid.affine
    turn = np.eye(4)[[2, 1, 0, 3]]
    sums = [np.zeros(grid.shape_kji, dtype=np.float32) for _ in maps]
    for part in range(parts):
        shift = np.eye(4)
        shift[2, 3] = (part + 0.5) / parts - 0.5
        matrix = turn @ to_head @ shift @ turn
        for n, values in enumerate(maps):
            sums[n] += ndimage.affine_transform(
                values, matrix[:3, :3], matrix[:3, 3], output_shape=grid.shape_kji, order=1, output=np.float32
            )
    return [total / np.float32(parts) for total in sums]


def _shading(shape_kji: tuple[int, int, int], rng: np.random.Generator) -> FloatArray:
    """Return a smooth field around 1."""
    coarse = rng.normal(size=(3, 4, 4)).astype(np.float32)
    zoom = [n / c for n, c in zip(shape_kji, coarse.shape, strict=True)]
    field = ndimage.zoom(ndimage.gaussian_filter(coarse, 0.7), zoom, order=1, mode="nearest", grid_mode=True)
    return np.asarray(1.0 + BIAS * field / np.abs(field).max(), dtype=np.float32)


def flair_phantom(
    seed: int,
    acquisition: Acquisition = AXIAL_2D,
    lesions: LesionLoad | None = None,
    *,
    not_yet: int = 0,
) -> FlairPhantom:
    """Return a FLAIR of a synthetic head; the same for the same arguments.

    Parameters
    ----------
    seed : int
    acquisition : Acquisition
        `AXIAL_2D` or `SAGITTAL_3D`, or one of the caller's.
    lesions : LesionLoad, optional
        24 lesions of about 12 mL in all by default; `NO_LESIONS` for a healthy head.
    not_yet : int
        Where it is not 0 the head is scanned on an earlier day, before so many of its lesions were there: it lies otherwise
        in the scanner, with other noise and shading.
    """
    rng = np.random.default_rng(seed)
    head = mni_head()
    pose = _pose(rng)
    load = LesionLoad() if lesions is None else lesions
    # the pose shrinks the template's brain, and its lesions with it
    load = replace(load, volume_ml=load.volume_ml / float(np.linalg.det(pose)))
    amount = lesion_amount(head, load, rng, not_yet=not_yet)
    brightness = np.float32(rng.uniform(*LESION_SIGNAL) * WHITE)
    texture = ndimage.gaussian_filter(rng.standard_normal(head.signal.shape, dtype=np.float32), 1.5)
    texture *= np.float32(TEXTURE_SD) / texture.std()
    signal = (head.signal * (1.0 - amount) + brightness * amount) * (1.0 + texture)

    if not_yet:
        rng = np.random.default_rng([seed, not_yet])
        pose = _laid_again(pose, rng)
    grid = _field_of_view(acquisition, pose, head)
    clean, share, brain = _scan([signal, amount, head.brain.astype(np.float32)], head, grid, pose)
    clean *= _shading(grid.shape_kji, rng)
    real, imaginary = (rng.normal(0.0, NOISE_SD, clean.shape).astype(np.float32) for _ in range(2))
    noisy = np.sqrt((clean + real) ** 2 + imaginary**2)
    stored = np.rint(noisy * np.float32(WHITE_SIGNAL)).astype(np.float32)
    volume = Volume(stored, grid.affine, dict(acquisition.attributes))
    return FlairPhantom(volume, share > 0.5, brain > 0.5, pose)
