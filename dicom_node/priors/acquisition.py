"""Acquisition of a series as its comparability is graded by: from its headers, or from what an archive answers of it.

An archive answers C-FIND at the level of series with what its database holds of them: of the keys below all are optional
(PS3.4 table C.6-3), and what it leaves out counts as not known. The distance of the slices only the images tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from dicom_node.series.headers import ImageHeader
from dicom_node.standard.geometry import slice_normal
from pipelines.comparability import Acquisition, plane_across

ACQUISITION_KEYS: Final = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "MagneticFieldStrength",
    "MRAcquisitionType",
    "ImageOrientationPatient",
    "SliceThickness",
    "EchoTime",
    "InversionTime",
    "RepetitionTime",
    "ContrastBolusAgent",
    "ScanOptions",
    "SequenceName",
)
"""Elements that an archive is asked for with each series."""


def acquired_by_headers(headers: Sequence[ImageHeader]) -> Acquisition:
    """Return the acquisition of a whole series by its headers."""
    if not headers:
        return Acquisition()
    attributes = {
        key: tuple(value) if isinstance(value, list) else value for key, value in headers[0].tags.items()
    }
    positions = [position for header in headers for position in header.positions]
    normal = _normal(headers[0].orientations[0] if headers[0].orientations else ())
    if normal is None or len(positions) < 2:
        return Acquisition(attributes)
    places = np.asarray(positions) @ normal
    return Acquisition(attributes, plane_across(normal), float(np.ptp(places)) / (len(positions) - 1) or None)


def acquired_as_answered(values: Mapping[str, object]) -> Acquisition:
    """Return the acquisition of a series by what an archive answered of it.

    Parameters
    ----------
    values : mapping of DICOM keyword to value
        What was not blank among `ACQUISITION_KEYS` and the names of the series.
    """
    orientation = values.get("ImageOrientationPatient")
    normal = _normal(orientation if isinstance(orientation, list) else ())
    return Acquisition(values, "" if normal is None else plane_across(normal), is_whole=False)


def _normal(orientation: Sequence[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    try:
        return slice_normal(orientation)
    except ValueError:
        return None
