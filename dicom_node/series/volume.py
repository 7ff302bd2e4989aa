"""Loading of a series: its files become a Volume, with its sources as the result objects need them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from dicom_node.errors import GeometryError, UnreadableError
from dicom_node.series.completeness import assess
from dicom_node.series.functional_groups import frame_items, group_item
from dicom_node.series.headers import ImageHeader, header_of
from dicom_node.series.jpeg2000 import check_codestreams
from dicom_node.series.limits import check_decoded, frame_and_all_bytes
from dicom_node.series.reading import (
    BAD_FILE_ERRORS,
    json_value,
    read_whole,
    read_without_pixels,
    tolerant,
    why,
)
from dicom_node.standard.geometry import Gap, affine_of, stack_slices
from pipelines.types import Volume

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True)
class LoadedSeries:
    """A series in memory.

    Parameters
    ----------
    volume : Volume or None
        None when only headers were read.
    datasets : tuple of Dataset
        The sources without pixel data and without SpacingBetweenSlices (readers trust it over the positions,
        and some vendors write nonsense), sorted by position along the slice normal; one for Enhanced MR.
    frames : tuple of (int, int or None)
        For every k of `volume.array`: index into `datasets`, and the frame number (from 1) of a multi-frame
        source.
    gaps : tuple of Gap
        Where slices are missing, if that was allowed. `volume.array` then has the slices at hand only, and
        `volume.affine` is that of the whole even grid: it gives the spacing, but places k right only up to the
        first gap. The sources say where each slice lies.
    """

    volume: Volume | None
    datasets: tuple[Dataset, ...]
    frames: tuple[tuple[int, int | None], ...]
    gaps: tuple[Gap, ...] = ()


def load_series(paths: Sequence[Path], *, allow_gaps: bool = False) -> LoadedSeries:
    """Read a whole series: classic or Enhanced MR, any orientation, any transfer syntax that pydicom decodes.

    k ascends along row direction x column direction. Spacing comes from the positions; SliceThickness and
    SpacingBetweenSlices are not used. MONOCHROME1 is inverted, so that high is bright. A gap is not filled:
    an invented slice would have no source to which a finding could refer.

    Parameters
    ----------
    allow_gaps : bool
        Load a series as it is, because a person or the configuration says so: with missing slices too, and tell where they
        are; and with several frames of reference. Never one of several patients or studies.

    Raises
    ------
    UnreadableError
        A file that is no DICOM image, is cut off, or can't be decoded.
    GeometryError
        The images are no even, unbroken volume.

    References
    ----------
    DICOM PS3.3 C.7.6.2.1.1, C.7.6.16.2, C.11.1
    """
    return _load(paths, pixels=True, allow_gaps=allow_gaps)


def load_sources(paths: Sequence[Path]) -> LoadedSeries:
    """Read the headers only, in the best order that they allow: for reports of what could not be analysed.

    Raises
    ------
    UnreadableError
        None of the files is readable DICOM.
    """
    return _load(paths, pixels=False)


def _load(paths: Sequence[Path], *, pixels: bool, allow_gaps: bool = False) -> LoadedSeries:
    datasets = _read_sources(paths, tolerate=not pixels)
    headers = [header_of(ds, has_pixels=True) for ds in datasets]
    if not pixels:
        order = _best_order(headers)
        numbers = [(k, number) for k, old in enumerate(order) for number in _frame_numbers(headers[old])]
        return LoadedSeries(None, tuple(_stripped(datasets[old]) for old in order), tuple(numbers))
    assessment = assess(headers, any_frame_of_reference=allow_gaps)
    if assessment.state == "not-a-volume":
        raise GeometryError(assessment.reason)
    orientation, pixel_spacing = headers[0].orientations[0], headers[0].pixel_spacing
    assert pixel_spacing is not None, "assess() refuses images without PixelSpacing"
    positions = [position for header in headers for position in header.positions]
    stack = stack_slices(positions, orientation)
    if stack.gaps and not allow_gaps:
        raise GeometryError(assessment.reason)
    first, last = positions[stack.order[0]], positions[stack.order[-1]]
    _check_memory(datasets)
    sources = [(index, frame) for index, header in enumerate(headers) for frame in range(header.frames)]
    ordered = [sources[index] for index in stack.order]
    place = {old: new for new, old in enumerate(dict.fromkeys(index for index, _ in ordered))}
    volume = Volume(
        _pixels(datasets, ordered),
        affine_of(orientation, pixel_spacing, first, last, len(positions) + stack.missing),
        _attributes(headers[0]),
    )
    frames = tuple(
        (place[index], frame + 1 if headers[index].frames > 1 else None) for index, frame in ordered
    )
    return LoadedSeries(volume, tuple(_stripped(datasets[old]) for old in place), frames, stack.gaps)


def _read_sources(paths: Sequence[Path], *, tolerate: bool) -> list[Dataset]:
    """Read all files with their pixel data; with `tolerate` without them, leaving out what can't be read."""
    if not paths:
        raise UnreadableError("no files")
    datasets: list[Dataset] = []
    fault: UnreadableError | None = None
    for path in paths:
        try:
            ds = read_without_pixels(path)[0] if tolerate else _read_whole(path)
            header_of(ds)
        except UnreadableError as error:
            if not tolerate:
                raise
            fault = error
        else:
            datasets.append(ds)
    if not datasets and fault is not None:
        raise fault
    return datasets


def _check_memory(datasets: Sequence[Dataset]) -> None:
    """Raise UnreadableError when the pixels of a series would take too much memory, by what its headers say."""
    sizes = [frame_and_all_bytes(ds) for ds in datasets]
    check_decoded(max(frame for frame, _ in sizes), sum(together for _, together in sizes))


def _read_whole(path: Path) -> Dataset:
    _, has_pixels = read_without_pixels(path)
    if not has_pixels:
        raise UnreadableError(f"{path.name}: no pixel data")
    try:
        return read_whole(path)
    except UnreadableError as error:
        raise UnreadableError(f"{path.name}: {error}") from error
    except BAD_FILE_ERRORS as error:
        raise UnreadableError(f"{path.name}: {why(error)}") from error
    except OSError as error:
        raise UnreadableError(f"{path.name} can't be read: {error.strerror or error}") from error


def _best_order(headers: Sequence[ImageHeader]) -> list[int]:
    """Ascending along the normal where each image has one position, else by InstanceNumber."""
    positions = [header.positions[0] for header in headers if len(header.positions) == 1]
    if len(positions) == len(headers):
        try:
            return list(stack_slices(positions, headers[0].orientations[0]).order)
        except ValueError:
            pass
    return sorted(range(len(headers)), key=lambda index: headers[index].instance_number or 0)


def _frame_numbers(header: ImageHeader) -> Iterable[int | None]:
    return range(1, header.frames + 1) if header.frames > 1 else (None,)


def _pixels(datasets: Sequence[Dataset], ordered: Sequence[tuple[int, int]]) -> npt.NDArray[np.float32]:
    """Decode frames (dataset, frame from 0) in their order: float32, shape (k, j, i), modality units."""
    slices: dict[tuple[int, int], npt.NDArray[np.float32]] = {}
    for index, ds in enumerate(datasets):
        stored = _decode(ds)
        items = frame_items(ds)
        for frame in range(len(stored)):
            item = items[frame] if frame < len(items) else None
            slices[index, frame] = _to_modality_units(stored[frame], ds, item)
    return np.stack([slices[key] for key in ordered])


def _decode(ds: Dataset) -> npt.NDArray[Any]:
    """Return stored values, shape (frame, j, i), with MONOCHROME1 turned into MONOCHROME2; GeometryError for colour."""
    name = str(ds.get("SOPInstanceUID"))[-12:]
    if ds.get("SamplesPerPixel", 1) != 1:
        raise GeometryError(f"image ...{name} is in colour: only grey values are analysed")
    try:
        with tolerant():
            check_codestreams(ds)
            stored = np.asarray(pixel_array(ds))
    except UnreadableError as error:
        raise UnreadableError(f"the pixels of image ...{name} can't be decoded: {error}") from error
    except (*BAD_FILE_ERRORS, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableError(f"the pixels of image ...{name} can't be decoded: {reason}") from error
    stored = stored.reshape(-1, *stored.shape[-2:])
    if ds.get("PhotometricInterpretation") == "MONOCHROME1":
        bits = int(ds.BitsStored)
        lowest, highest = (
            (-(1 << bits - 1), (1 << bits - 1) - 1) if ds.PixelRepresentation else (0, (1 << bits) - 1)
        )
        return np.asarray(lowest + highest - stored.astype(np.int64))
    return stored


def _to_modality_units(
    stored: npt.NDArray[Any], ds: Dataset, frame: Dataset | None
) -> npt.NDArray[np.float32]:
    """Apply RescaleSlope and RescaleIntercept, of the frame where it has its own (PS3.3 C.7.6.16.2.9).

    Philips' private scale slope to floating-point values is left out: it is one factor for the whole series.
    """
    group = group_item(ds, frame, "PixelValueTransformationSequence")
    holder = ds if group is None else group
    slope, intercept = json_value(holder, "RescaleSlope"), json_value(holder, "RescaleIntercept")
    values = stored.astype(np.float32)
    if isinstance(slope, float) and slope not in (0.0, 1.0):
        values *= np.float32(slope)
    if isinstance(intercept, float) and intercept != 0.0:
        values += np.float32(intercept)
    return values


def _stripped(ds: Dataset) -> Dataset:
    """Return the dataset itself without pixel data and SpacingBetweenSlices."""
    for keyword in PIXEL_KEYWORDS:
        if keyword in ds:
            del ds[keyword]
    shared = list(ds.get("SharedFunctionalGroupsSequence") or ())
    for holder in (*shared, *frame_items(ds)):
        for measures in holder.get("PixelMeasuresSequence") or ():
            if "SpacingBetweenSlices" in measures:
                del measures.SpacingBetweenSlices
    if "SpacingBetweenSlices" in ds:
        del ds.SpacingBetweenSlices
    return ds


def _attributes(header: ImageHeader) -> dict[str, object]:
    """Acquisition values for the pipeline, several values as a tuple."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in header.tags.items()}
