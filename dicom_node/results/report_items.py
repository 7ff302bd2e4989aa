"""The pieces that the measurement groups of the structured report (PS3.16 TID 1500) are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node.results.context import ResultContext
from dicom_node.results.finding_marks import Mark, Marks
from dicom_node.results.provenance import MANUFACTURER, ensemble_name, software_versions
from dicom_node.results.source import slice_of
from dicom_node.standard import codes
from pipelines.types import Findings, ModelCard, Point

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

Group = Any
"""A measurement group of highdicom, TID 1411 or 1501."""


@dataclass(frozen=True)
class ReportInput:
    """Everything that the tree is made from.

    ``frames``: those of the SEG, by segment number and position.
    """

    findings: Findings
    series: LoadedSeries
    sources: list[Dataset]
    segmentation: Dataset | None
    context: ResultContext
    marks: Marks
    frames: Mapping[tuple[int, tuple[float, ...]], int]


def with_comments(group: Group, comments: Sequence[str]) -> Group:
    """Add comments, TEXT items, to a group and return it."""
    for text in filter(None, comments):
        group[0].ContentSequence.append(
            sr.TextContentItem(codes.COMMENT, text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        )
    return group


def with_centre(group: Group, given: ReportInput, centre_lps: Point) -> Group:
    """Add a lesion's centre to its group, a point in SCOORD3D, and return it."""
    point = sr.Scoord3DContentItem(
        name=codes.CENTRE,
        graphic_type=sr.GraphicTypeValues3D.POINT,
        graphic_data=np.array([centre_lps], dtype=np.float64),
        frame_of_reference_uid=given.sources[0].FrameOfReferenceUID,
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )
    group[0].ContentSequence.append(point)
    return group


def tracking(given: ReportInput, name: str, *index: object) -> sr.TrackingIdentifier:
    """Return the identifier of one group: its name, and a UID that derives from the index."""
    return sr.TrackingIdentifier(uid=given.context.derive_uid("tracking", *index), identifier=name)


def algorithm(models: Sequence[ModelCard]) -> sr.AlgorithmIdentification | None:
    """Return TID 4019 with the values that ContributingEquipment has; of an ensemble, those of all its members."""
    if not models:
        return None
    versions = [software_versions(model) for model in models]
    return sr.AlgorithmIdentification(
        name=ensemble_name(models),
        version=" and ".join(version for version, _ in versions),
        parameters=[f"weights digest {digest}" for _, digest in versions],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def finding_site(key: str, laterality: str | None) -> sr.FindingSite:
    """Return where a finding is: a site or a region of the brain (code keys), with its side."""
    side = codes.LATERALITY[laterality] if laterality else None
    if codes.is_region(key):
        return sr.FindingSite(
            codes.site_of_region(key), laterality=side, topographical_modifier=codes.site_code(key)
        )
    return sr.FindingSite(codes.site_code(key), laterality=side)


def finding_sites(key: str, laterality: str | None) -> list[sr.FindingSite]:
    """Return where the finding of a measurement group is.

    A region comes first by itself, for viewers show the first site alone and no modifiers; then the standard site that it
    modifies.
    """
    if not codes.is_region(key):
        return [finding_site(key, laterality)]
    side = codes.LATERALITY[laterality] if laterality else None
    return [sr.FindingSite(codes.site_code(key), laterality=side), finding_site(key, laterality)]


def evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    """Return a coded statement."""
    return sr.QualitativeEvaluation(name=name, value=value)


def with_mark(group: Group, given: ReportInput, mark: Mark, name: Code = codes.MARK) -> Group:
    """Add a voxel as a point of its source image (SCOORD), by which viewers open a group, and return the group.

    Image coordinates begin at the corner of the first pixel, so that its centre is (0.5, 0.5) (PS3.3 C.18.6.1.1).
    """
    place = slice_of(given.series, given.sources, mark.k)
    point = sr.ScoordContentItem(
        name=name,
        graphic_type=sr.GraphicTypeValues.POINT,
        graphic_data=np.array([[mark.i + 0.5, mark.j + 0.5]]),
        relationship_type=sr.RelationshipTypeValues.CONTAINS,
    )
    image = sr.ImageContentItem(
        name=codes.SOURCE_OF_REGION,
        referenced_sop_class_uid=place.source.SOPClassUID,
        referenced_sop_instance_uid=place.source.SOPInstanceUID,
        referenced_frame_numbers=place.frame,
        relationship_type=sr.RelationshipTypeValues.SELECTED_FROM,
    )
    point.ContentSequence = sr.ContentSequence([image])
    group[0].ContentSequence.append(point)
    return group
