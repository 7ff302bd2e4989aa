"""Scan of an orbital phantom: the series' grid, and two simulated scanners that differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.brain.grid import Grid
from pipelines.phantoms.orbit_anatomy import Points, rotation
from pipelines.types import FloatArray

ScannerName = Literal["A", "B"]
Line = npt.NDArray[np.floating[Any]]
Order = Literal["anterior-first", "posterior-first"]

_COMMON: dict[str, object] = {
    "Modality": "MR",
    "ImageType": ("ORIGINAL", "PRIMARY", "M", "ND"),
    "PatientPosition": "HFS",
    "BodyPartExamined": "ORBIT",
    "ImagedNucleus": "1H",
    "ScanningSequence": "SE",
    "SequenceVariant": ("SK", "SP"),
    "ScanOptions": "FS",
    "MRAcquisitionType": "2D",
    "FlipAngle": 150.0,
}


@dataclass(frozen=True)
class Scanner:
    """A simulated scanner.

    Parameters
    ----------
    name : "A" or "B"
    resolution_mm : float
        Full width at half maximum of a point, at least; a pixel more than that counts instead.
    ringing : bool
        A truncated, lightly filtered k-space (windowed sinc) rather than a Gaussian point.
    rounded_profile : bool
        Slices that see their middle more than their edges, rather than all alike.
    dampened : float
        Of the contrast: `pipelines.phantoms.orbit_signal.draw_contrast`.
    snr : two floats
        Vitreous over the noise's SD in the middle, lowest and highest.
    noise_grain_mm : float
        Width of the noise's grain; 0: every pixel has its own.
    noise_centre : float
        How much more noise there is in the middle than at the border (parallel imaging), relative.
    shading : two floats
        SD of the smooth shading, and its fall from front to back over 50 mm (an eye coil), relative.
    vitreous : two floats
        Stored value of the vitreous, lowest and highest.
    phase : "i" or "j"
        Direction of the ghosts of moving eyes.
    attributes : mapping
        Under DICOM keywords.
    """

    name: ScannerName
    resolution_mm: float
    ringing: bool
    rounded_profile: bool
    dampened: float
    snr: tuple[float, float]
    noise_grain_mm: float
    noise_centre: float
    shading: tuple[float, float]
    vitreous: tuple[float, float]
    phase: Literal["i", "j"]
    attributes: Mapping[str, object]


SCANNERS: Mapping[ScannerName, Scanner] = {
    "A": Scanner(
        name="A",
        resolution_mm=0.6,
        ringing=False,
        rounded_profile=False,
        dampened=1.0,
        snr=(14.0, 25.0),
        noise_grain_mm=0.0,
        noise_centre=0.0,
        shading=(0.08, 0.0),
        vitreous=(700.0, 1100.0),
        phase="j",
        attributes={
            **_COMMON,
            "Manufacturer": "SIEMENS",
            "ManufacturerModelName": "Phantom A",
            "MagneticFieldStrength": 3.0,
            "ImagingFrequency": 123.2,
            "SequenceName": "*tse2d1_13",
            "ProtocolName": "t2_tse_fs_cor_orbita",
            "SeriesDescription": "t2_tse_fs_cor_orbita phantom",
            "RepetitionTime": 4000.0,
            "EchoTime": 84.0,
            "EchoTrainLength": 13,
            "NumberOfAverages": 2.0,
            "PixelBandwidth": 220.0,
        },
    ),
    "B": Scanner(
        name="B",
        resolution_mm=1.0,
        ringing=True,
        rounded_profile=True,
        dampened=1.2,
        snr=(10.0, 18.0),
        noise_grain_mm=1.0,
        noise_centre=0.4,
        shading=(0.14, 0.25),
        vitreous=(1500.0, 2400.0),
        phase="i",
        attributes={
            **_COMMON,
            "Manufacturer": "Philips Medical Systems",
            "ManufacturerModelName": "Phantom B",
            "MagneticFieldStrength": 1.5,
            "ImagingFrequency": 63.9,
            "ProtocolName": "T2W_TSE_SPIR_COR ORBITS",
            "SeriesDescription": "T2W_TSE_SPIR_COR ORBITS phantom",
            "RepetitionTime": 3200.0,
            "EchoTime": 100.0,
            "EchoTrainLength": 16,
            "NumberOfAverages": 3.0,
            "PixelBandwidth": 180.0,
        },
    ),
}
SPACING_MM: Mapping[ScannerName, tuple[float, float, float]] = {"A": (3.0, 0.5, 0.5), "B": (3.3, 0.6, 0.6)}
SHAPE_KJI: Mapping[ScannerName, tuple[int, int, int]] = {"A": (20, 360, 360), "B": (18, 300, 300)}


@dataclass(frozen=True)
class OrbitScan:
    """A coronal series of the orbits; the default is the published one: 20 slices of 0.5 x 0.5 x 3.0 mm over 180 mm.

    Parameters
    ----------
    spacing_mm, shape_kji : three numbers
        Along k, j and i. Fewer rows show less of the brain.
    tilt_deg : two floats
        Rotation of the slices about x, then about z.
    order : "anterior-first" or "posterior-first"
        Which way k goes.
    scanner : "A" or "B"
    offset_lps : three floats, mm
        Middle of the field of view from the midpoint between the globes; along P, to it from where it is by `front_mm`.
    front_mm : float
        How far before the midpoint between the globes the most anterior slice lies.
    attributes : mapping
        DICOM keywords that replace or join the scanner's.
    """

    spacing_mm: tuple[float, float, float] = (3.0, 0.5, 0.5)
    shape_kji: tuple[int, int, int] = (20, 360, 360)
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    order: Order = "anterior-first"
    scanner: ScannerName = "A"
    offset_lps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    front_mm: float = 14.0
    attributes: Mapping[str, object] = field(default_factory=dict)

    @property
    def axes(self) -> Points:
        """Unit vectors of i, j and of the way to the back as columns, LPS."""
        upright = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
        tilt = rotation(0.0, 0.0, self.tilt_deg[1]) @ rotation(self.tilt_deg[0], 0.0, 0.0)
        return np.asarray(tilt @ upright)

    def grid(self, middle: Points) -> Grid:
        """Return the series' grid for a midpoint between the globes, shape (3,), mm, LPS."""
        steps = self.axes * np.array(self.spacing_mm[::-1])
        slices, rows, columns = self.shape_kji
        origin = middle + np.array(self.offset_lps) - self.front_mm * self.axes[:, 2]
        origin = origin - steps[:, 0] * (columns - 1) / 2 - steps[:, 1] * (rows - 1) / 2
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = steps, origin
        if self.order == "posterior-first":
            affine[:3, 3] += (slices - 1) * steps[:, 2]
            affine[:3, 2] *= -1.0
        return Grid(self.shape_kji, affine)

    def dicom_attributes(self) -> dict[str, object]:
        """Return the acquisition's attributes under their DICOM keywords."""
        return {
            **SCANNERS[self.scanner].attributes,
            "SliceThickness": self.spacing_mm[0],
            "SpacingBetweenSlices": self.spacing_mm[0],
            **self.attributes,
        }


def draw_scan(rng: np.random.Generator, scanner: ScannerName = "A", *, wide: bool = False) -> OrbitScan:
    """Return a series as a technologist would plan it: the scanner's own grid, placed and tilted by hand.

    Parameters
    ----------
    wide : bool
        All that the pipeline takes instead: tilts up to 30 degrees in all, 0.4 to 0.8 mm in plane, slices of 2 to 4 mm, either
        order, with and without much brain.
    """
    offset = (float(rng.normal(0.0, 3.0)), 0.0, float(rng.normal(6.0, 5.0)))
    scan = OrbitScan(
        SPACING_MM[scanner],
        SHAPE_KJI[scanner],
        (float(np.clip(rng.normal(0.0, 5.0), -12, 12)), float(np.clip(rng.normal(0.0, 2.5), -6, 6))),
        scanner=scanner,
        offset_lps=offset,
        front_mm=float(rng.uniform(11.0, 18.0)),
    )
    if not wide:
        return scan
    tilt, way = rng.uniform(0.0, 29.0), rng.normal(size=2) * [1.0, 0.5]
    way /= np.linalg.norm(way)
    thick, fine = float(rng.uniform(2.0, 4.0)), float(rng.uniform(0.4, 0.8))
    columns = int(rng.uniform(150.0, 200.0) / fine) // 2 * 2
    rows = int(rng.uniform(0.6, 1.0) * columns) // 2 * 2
    slices = int(np.ceil(rng.uniform(52.0, 66.0) / thick))
    return replace(
        scan,
        spacing_mm=(thick, fine, fine),
        shape_kji=(int(np.clip(slices, 14, 34)), rows, columns),
        tilt_deg=(float(tilt * way[0]), float(tilt * way[1])),
        order="anterior-first" if rng.random() < 0.5 else "posterior-first",
        front_mm=float(rng.uniform(10.0, 16.0)),
    )


def point_weights(
    pixels_mm: Line, fine_mm: Line, width_mm: float, *, ringing: bool, motion_mm: float = 0.0
) -> FloatArray:
    """Return how pixels see points along one axis: float32, shape (pixels, points), rows that sum to 1.

    Parameters
    ----------
    pixels_mm, fine_mm : float64 arrays, mm
        Where the pixels and the evenly spaced points lie.
    width_mm : float
        Full width at half maximum.
    ringing : bool
        A sinc in a Hann window of three lobes rather than a Gaussian.
    motion_mm : float
        SD of a movement that is blurred in.
    """
    distance = pixels_mm[:, None] - fine_mm[None, :]
    if ringing:
        lobe = width_mm / 1.21
        window = np.where(np.abs(distance) < 3 * lobe, 0.5 + 0.5 * np.cos(np.pi * distance / (3 * lobe)), 0.0)
        weights = np.sinc(distance / lobe) * window
    else:
        weights = np.exp(-4.0 * np.log(2.0) * (distance / width_mm) ** 2)
    if motion_mm > 0.0:
        between = fine_mm[:, None] - fine_mm[None, :]
        blur = np.exp(-0.5 * (between / motion_mm) ** 2)
        weights = weights @ (blur / blur.sum(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def cover_weights(pixels_mm: Line, spacing_mm: float, fine_mm: Line) -> FloatArray:
    """Return which share of each pixel each fine point takes up, float32, shape (pixels, points)."""
    step = fine_mm[1] - fine_mm[0]
    low = np.maximum(pixels_mm[:, None] - spacing_mm / 2, fine_mm[None, :] - step / 2)
    high = np.minimum(pixels_mm[:, None] + spacing_mm / 2, fine_mm[None, :] + step / 2)
    return np.asarray(np.maximum(high - low, 0.0) / spacing_mm, dtype=np.float32)
