"""A volume cut into slices as a scanner acquires and numbers them, and values put into datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from dicom_node.errors import GeometryError
from dicom_node.standard.geometry import orientation_of
from pipelines.types import Volume

Numbering = Literal["spatial", "reversed", "acquisition"]
SLICE_TIME_S = 0.25
"""Between the acquisition times of two slices."""


@dataclass(frozen=True)
class Slices:
    """Slices and elements from which both kinds of image are written.

    Parameters
    ----------
    stored : integer array, shape (k, j, i)
    slope, intercept : float
        Stored value to modality units.
    orientation : 6 floats
    positions : float64 array, shape (k, 3), mm, LPS
    pixel_spacing : (float, float), mm
        Between rows, between columns.
    spacing_mm : float
        Between slices.
    acquired : tuple of int
        Slice indices k in the order of their acquisition.
    numbers : tuple of int
        InstanceNumber of each slice k.
    times : tuple of datetime
        Start of the acquisition of each slice k.
    """

    stored: npt.NDArray[Any]
    slope: float
    intercept: float
    orientation: tuple[float, ...]
    positions: npt.NDArray[np.float64]
    pixel_spacing: tuple[float, float]
    spacing_mm: float
    acquired: tuple[int, ...]
    numbers: tuple[int, ...]
    times: tuple[datetime, ...]


def cut_volume(volume: Volume, interleaved: bool, numbering: Numbering, start: datetime) -> Slices:
    """Quantise a volume and number its slices.

    Raises
    ------
    GeometryError
        The axes of the volume are not perpendicular.
    """
    try:
        orientation, pixel_spacing = orientation_of(volume.affine)
    except ValueError as error:
        raise GeometryError(str(error)) from error
    count = len(volume.array)
    acquired = (*range(0, count, 2), *range(1, count, 2)) if interleaved else tuple(range(count))
    rank = {k: index for index, k in enumerate(acquired)}
    numbers = {
        "spatial": [k + 1 for k in range(count)],
        "reversed": [count - k for k in range(count)],
        "acquisition": [rank[k] + 1 for k in range(count)],
    }[numbering]
    stored, slope, intercept = _quantised(volume.array)
    return Slices(
        stored=stored,
        slope=slope,
        intercept=intercept,
        orientation=orientation,
        positions=volume.position_lps([(k, 0, 0) for k in range(count)]),
        pixel_spacing=pixel_spacing,
        spacing_mm=volume.spacing_mm[0],
        acquired=acquired,
        numbers=tuple(numbers),
        times=tuple(start + timedelta(seconds=60 + SLICE_TIME_S * rank[k]) for k in range(count)),
    )


def _quantised(array: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], float, float]:
    """Return stored values with slope and intercept; the values themselves where they are 16-bit integers."""
    low, high = float(array.min()), float(array.max())
    if np.array_equal(array, np.rint(array)) and low >= -32768 and high <= 32767:
        return array.astype(np.int16 if low < 0 else np.uint16), 1.0, 0.0
    intercept = float(DSfloat(min(low, 0.0), auto_format=True))
    slope = float(DSfloat((high - intercept) / 32767, auto_format=True)) or 1.0
    return (
        np.rint((array.astype(np.float64) - intercept) / slope).clip(0, 32767).astype(np.uint16),
        slope,
        intercept,
    )


def frame_order(slices: Slices) -> list[int]:
    """Slice indices k in the order of their numbers."""
    return [int(k) for k in np.argsort(slices.numbers)]


def put(ds: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute; decimal strings are cut to their 16 bytes; None leaves it out."""
    if value is None:
        if keyword in ds:
            del ds[keyword]
        return
    if dictionary_VR(keyword) == "DS" and not isinstance(value, str):
        several = isinstance(value, Sequence | np.ndarray)
        parts = [DSfloat(float(part), auto_format=True) for part in (value if several else [value])]
        value = parts if several else parts[0]
    elif dictionary_VR(keyword) == "IS" and isinstance(value, float):
        value = round(value)
    elif isinstance(value, tuple):
        value = list(value)
    setattr(ds, keyword, value)


def window(slices: Slices) -> tuple[float, float]:
    """Return WindowCenter and WindowWidth, in modality units, from the darkest to nearly the brightest."""
    low, high = np.percentile(slices.stored[:, ::2, ::2], (1, 99.5)) * slices.slope + slices.intercept
    return round(float(low + high) / 2, 3), max(1.0, round(float(high - low), 3))
