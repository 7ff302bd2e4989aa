"""The lesion masks as one BINARY Segmentation (PS3.3 A.51) on the native grid of the source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.valuerep import DSfloat

from dicom_node.errors import ResultError
from dicom_node.results import wording
from dicom_node.results.colours import segment_colour
from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import (
    MANUFACTURER,
    MODEL_NAME,
    ensemble_name,
    finish,
    mask_models,
    models_behind,
    software_versions,
    state_coding_scheme,
)
from dicom_node.results.series_list import LONG_STRING, listed_series
from dicom_node.results.source import is_enhanced, without_name
from dicom_node.standard import codes
from pipelines.types import BoolArray, Findings, ModelCard, Segment

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "seg"


def segments_shown(findings: Findings) -> tuple[Segment, ...]:
    """Return the segments that have voxels: viewers drop an empty one, or fail."""
    return tuple(segment for segment in findings.segments if segment.mask.any())


def build_segmentation(
    findings: Findings, series: LoadedSeries, sources: list[Dataset], context: ResultContext
) -> Dataset:
    """Return the SEG of all segments that have voxels.

    Raises
    ------
    ResultError
        No segment has a voxel, or a mask is not on the source's grid.
    """
    segments = segments_shown(findings)
    if not segments or series.volume is None:
        raise ResultError("a SEG needs a volume and at least one segment with a voxel in it")
    for segment in segments:
        if segment.mask.shape != series.volume.array.shape:
            raise ResultError(
                f"segment {segment.name!r} has shape {segment.mask.shape}, the source {series.volume.array.shape}"
            )
    drawn_by = mask_models(findings)
    descriptions = [
        _description(number, segment, drawn_by, context) for number, segment in enumerate(segments, start=1)
    ]
    return encoded_masks(
        [item.mask for item in segments],
        descriptions,
        series,
        sources,
        context,
        role=ROLE,
        models=_models_of(findings, segments),
        label="OPTIC_NERVES" if findings.sites else "LESIONS",
    )


def encoded_masks(
    masks: Sequence[BoolArray],
    descriptions: Sequence[SegmentDescription],
    series: LoadedSeries,
    sources: list[Dataset],
    context: ResultContext,
    *,
    role: str,
    models: Sequence[ModelCard],
    label: str,
) -> Dataset:
    """Return a finished SEG of masks on the grid of a series' volume, one segment for each description.

    Parameters
    ----------
    masks : sequence of bool array, shape (k, j, i)
        Each with at least one voxel.
    role, models, label
        Role of the object, what made it, and its ContentLabel (0070,0080).
    """
    if series.volume is None:
        raise ResultError("a SEG needs the volume that its masks lie on")
    used = _sources_of_slices(series, sources)
    ds: Dataset = highdicom.seg.Segmentation(
        source_images=without_name(used),
        pixel_array=np.stack([_in_source_order(mask, series, used) for mask in masks], axis=-1).astype(
            np.uint8
        ),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=list(descriptions),
        series_instance_uid=context.derive_uid(role, "series"),
        series_number=listed_series(context, role).number,
        sop_instance_uid=context.derive_uid(role, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.node_version,
        device_serial_number=context.node_id,
        omit_empty_frames=False,
        content_label=label,
        content_description=f"Research: {context.title}"[:LONG_STRING],
    )
    _name_segment_in_each_frame(ds)
    _state_spacing(ds, series.volume.spacing_mm[0])
    dimensions = context.derive_uid(role, "dimensions")
    ds.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimensions
    for item in ds.DimensionIndexSequence:
        item.DimensionOrganizationUID = dimensions
    finish(ds, source=used[0], context=context, models=models, role=role)
    state_coding_scheme(ds)
    return ds


def _models_of(findings: Findings, segments: Sequence[Segment]) -> tuple[ModelCard, ...]:
    """Return the models whose results the SEG holds: those that drew it, and those that sorted it by regions."""
    by_region = any(segment.region for segment in segments)
    return models_behind(findings, "mask", "regions") if by_region else models_behind(findings, "mask")


def _name_segment_in_each_frame(ds: Dataset) -> None:
    """Move the segment's number from the shared groups, where highdicom puts an only one, to each frame.

    Both places are allowed (PS3.3 C.8.20.3.1); viewers, and highdicom's own SR templates, look in the frames.
    """
    shared = ds.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:
        for frame in ds.PerFrameFunctionalGroupsSequence:
            item = Dataset()
            item.ReferencedSegmentNumber = shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            frame.SegmentIdentificationSequence = [item]
        del shared.SegmentIdentificationSequence


def frames_by_place(ds: Dataset) -> dict[tuple[int, tuple[float, ...]], int]:
    """Return the frames of a SEG, from 1 on, by segment number and rounded ImagePositionPatient."""
    frames = {}
    for index, frame in enumerate(ds.PerFrameFunctionalGroupsSequence, start=1):
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        frames[number, rounded(frame.PlanePositionSequence[0].ImagePositionPatient)] = index
    return frames


def rounded(position: Sequence[float]) -> tuple[float, ...]:
    """Return a position, mm, by which the same place in two objects is known."""
    return tuple(round(float(value), 3) for value in position)


def _state_spacing(ds: Dataset, spacing_k_mm: float) -> None:
    """State SpacingBetweenSlices also where highdicom does not, because slices are missing or not quite even.

    Without it dcmqi takes SliceThickness for the spacing, and puts planes at wrong places.
    """
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" not in measures:
        measures.SpacingBetweenSlices = DSfloat(spacing_k_mm, auto_format=True)


def tracking_uid(segment: Segment, context: ResultContext) -> str:
    """Return the Tracking UID that SEG and SR share for a segment."""
    return context.derive_uid("segment", segment.name, segment.laterality or "")


def tracking_id(segment: Segment) -> str:
    """Return what SEG and SR call a segment."""
    return f"{segment.laterality.capitalize()} {segment.name}" if segment.laterality else segment.name


def _sources_of_slices(series: LoadedSeries, sources: list[Dataset]) -> list[Dataset]:
    """Return the sources that the volume's slices come from, in the order of the slices."""
    used = [index for index, _ in series.frames]
    return [sources[index] for index in dict.fromkeys(used)]


def _in_source_order(mask: BoolArray, series: LoadedSeries, used: list[Dataset]) -> BoolArray:
    """Return mask planes as the sources have them: the slices' order, or the frames' for Enhanced MR."""
    if not is_enhanced(used[0]):
        return mask
    if len(used) > 1:
        raise ResultError("a SEG can refer to one multi-frame image, and this series has several")
    planes = np.zeros((int(used[0].NumberOfFrames), *mask.shape[1:]), dtype=bool)
    for k, (_, frame) in enumerate(series.frames):
        planes[(frame or 1) - 1] = mask[k]
    return planes


def _description(
    number: int, segment: Segment, models: Sequence[ModelCard], context: ResultContext
) -> SegmentDescription:
    name = tracking_id(segment)
    description = SegmentDescription(
        segment_number=number,
        segment_label=name[:LONG_STRING],
        segmented_property_category=category_of(segment),
        segmented_property_type=codes.finding_code(segment.code),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_of_segments(models, context),
        tracking_uid=tracking_uid(segment, context),
        tracking_id=name,
        anatomic_regions=_anatomic_regions(segment),
        display_color=CIELabColor.from_rgb(*segment_colour(segment)),
    )
    remark = wording.segment_remark(segment)
    if remark:
        description.SegmentDescription = remark
    if segment.region:
        modifier = [highdicom.sr.CodedConcept.from_code(codes.site_code(segment.region))]
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = modifier
    elif segment.laterality:
        side = [highdicom.sr.CodedConcept.from_code(codes.LATERALITY[segment.laterality])]
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = side
        if segment.code == "optic_nerve":  # the structure itself has a side (PS3.3 C.8.20.2)
            property_type = description.SegmentedPropertyTypeCodeSequence[0]
            property_type.SegmentedPropertyTypeModifierCodeSequence = side
    return description


def algorithm_of_segments(
    models: Sequence[ModelCard], context: ResultContext
) -> highdicom.AlgorithmIdentificationSequence:
    """Return what drew a segment, with the values that ContributingEquipment has."""
    versions = [software_versions(model) for model in models]
    return highdicom.AlgorithmIdentificationSequence(
        name=ensemble_name(models)[:LONG_STRING] if models else MODEL_NAME,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=" and ".join(version for version, _ in versions)[:LONG_STRING] or context.node_version,
        source=MANUFACTURER,
        parameters={
            f"weights digest {number}": digest for number, (_, digest) in enumerate(versions, start=1)
        }
        or None,
    )


def _anatomic_regions(segment: Segment) -> list[Code] | None:
    """Return the standard site of a segment; its region or its side is a modifier of it."""
    if segment.region:
        return [codes.site_of_region(segment.region)]
    return [codes.OPTIC_NERVE] if segment.laterality else None


def category_of(segment: Segment) -> Code:
    """Return the category that SEG and SR give a segment."""
    return codes.ANATOMICAL_STRUCTURE if segment.code == "optic_nerve" else codes.ABNORMAL_STRUCTURE
