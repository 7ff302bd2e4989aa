"""Lesion masks from the Segmentation objects of others, on the voxels of the series that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from dicom_node.errors import UnreadableError
from dicom_node.series.functional_groups import frame_geometry, frame_items, group_item
from dicom_node.series.reading import BAD_FILE_ERRORS, read_whole, tolerant, why
from dicom_node.series.volume import LoadedSeries
from pipelines.errors import DataSetError
from pipelines.types import BoolArray, Volume

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
GRID_TOLERANCE = 0.1
"""Voxels by which the planes of a mask may lie beside those of the FLAIR."""
ORIENTATION_TOLERANCE = 1e-3
"""By which direction cosines may differ."""


def read_lesions(paths: Sequence[Path], series: LoadedSeries, where: str) -> BoolArray | None:
    """Read the lesion segments of Segmentation objects onto a series' grid; several are joined.

    Parameters
    ----------
    paths : sequence of Path
        Segmentations of the study; those of other frames of reference are passed over as long as one is of this.
    series : LoadedSeries
    where : str
        How errors name the line.

    Returns
    -------
    bool array, shape (k, j, i), or None
        None when there are no Segmentations: the lesions are unknown.

    Raises
    ------
    DataSetError
        All lie in another frame of reference; none has a segment of lesions; a plane is not one of the series.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20.2, C.7.6.16.2.3
    """
    if not paths or series.volume is None:
        return None
    frame_of_reference = str(series.datasets[0].get("FrameOfReferenceUID", ""))
    objects = [_read_segmentation(path) for path in paths]
    here = [ds for ds in objects if str(ds.get("FrameOfReferenceUID", "")) == frame_of_reference]
    if not here:
        raise DataSetError(f"{where}: the Segmentation lies in another frame of reference than the FLAIR")
    lesions = np.zeros(series.volume.array.shape, bool)
    known = False
    for ds in here:
        numbers = _lesion_segments(ds)
        if numbers:
            known = True
            _add_frames(ds, numbers, lesions, series.volume, where)
    if not known:
        raise DataSetError(
            f"{where}: no segment of the Segmentation has a label or type with the word lesion"
        )
    return lesions


def _read_segmentation(path: Path) -> Dataset:
    try:
        return read_whole(path)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name}: {error}") from error
    except BAD_FILE_ERRORS as error:
        raise UnreadableError(f"{path.name}: {why(error)}") from error


def _lesion_segments(ds: Dataset) -> set[int]:
    """Return the numbers of the segments whose SegmentLabel or type (PS3.3 C.8.20.4) has the word lesion."""
    numbers = set()
    for segment in ds.get("SegmentSequence") or ():
        types = segment.get("SegmentedPropertyTypeCodeSequence") or ()
        texts = [segment.get("SegmentLabel", ""), *(code.get("CodeMeaning", "") for code in types)]
        if any("lesion" in str(text).lower() for text in texts):
            numbers.add(int(segment.SegmentNumber))
    return numbers


def _add_frames(ds: Dataset, numbers: set[int], lesions: BoolArray, volume: Volume, where: str) -> None:
    """Set the voxels of a Segmentation's frames in ``lesions``, each plane at its place."""
    frames = frame_items(ds)
    geometry = frame_geometry(ds, len(frames))
    if not geometry.positions or geometry.pixel_spacing is None:
        raise DataSetError(f"{where}: the Segmentation has frames without a position")
    try:
        with tolerant():
            stored = np.asarray(pixel_array(ds)).reshape(len(frames), int(ds.Rows), int(ds.Columns))
    except (*BAD_FILE_ERRORS, RuntimeError) as error:
        raise DataSetError(f"{where}: the Segmentation's pixels can't be decoded") from error
    # FRACTIONAL: half of the greatest value or more is lesion (PS3.3 C.8.20.2.3).
    least = int(ds.get("MaximumFractionalValue", 1)) / 2
    _check_axes(geometry.orientations[0], geometry.pixel_spacing, stored.shape[1:], volume, where)
    inverse = np.linalg.inv(volume.affine)
    for frame, position, pixels in zip(frames, geometry.positions, stored, strict=True):
        identification = group_item(ds, frame, "SegmentIdentificationSequence")
        if identification is None or int(identification.ReferencedSegmentNumber) not in numbers:
            continue
        index = (inverse @ [*position, 1.0])[:3]
        nearest = np.rint(index)
        k = int(nearest[2])
        off = np.abs(index - nearest).max() > GRID_TOLERANCE or bool(nearest[:2].any())
        if off or not 0 <= k < len(lesions):
            raise DataSetError(f"{where}: a plane of the Segmentation is not one of the FLAIR's")
        lesions[k] |= pixels >= max(least, 1)


def _check_axes(
    orientation: Sequence[float],
    pixel_spacing: tuple[float, float],
    shape: tuple[int, ...],
    volume: Volume,
    where: str,
) -> None:
    """Compare orientation, spacing and size of a mask's planes with those of the volume."""
    rows, columns = volume.affine[:3, 0], volume.affine[:3, 1]
    steps = np.array([np.linalg.norm(columns), np.linalg.norm(rows)])
    axes = np.concatenate([rows / steps[1], columns / steps[0]])
    same = (
        np.allclose(orientation, axes, atol=ORIENTATION_TOLERANCE)
        and np.allclose(pixel_spacing, steps, rtol=1e-3)
        and tuple(shape) == volume.array.shape[1:]
    )
    if not same:
        raise DataSetError(f"{where}: the Segmentation is not on the grid of the FLAIR; resample it first")
