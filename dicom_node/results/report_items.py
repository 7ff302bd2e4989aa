"""The pieces that the measurement groups of the structured report (PS3.16 TID 1500) are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import MANUFACTURER, software_versions
from dicom_node.standard import codes
from pipelines.types import Findings, ModelCard

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

Group = Any
"""A measurement group of highdicom, TID 1411 or 1501."""


@dataclass(frozen=True)
class ReportInput:
    """Everything that the tree is made from; ``points``: state the lesions' centres as SCOORD3D."""

    findings: Findings
    series: LoadedSeries
    sources: list[Dataset]
    segmentation: Dataset | None
    context: ResultContext
    points: bool


def with_comments(group: Group, comments: Sequence[str]) -> Group:
    """Add comments, TEXT items, to a group and return it."""
    for text in filter(None, comments):
        group[0].ContentSequence.append(
            sr.TextContentItem(codes.COMMENT, text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        )
    return group


def tracking(given: ReportInput, name: str, *index: object) -> sr.TrackingIdentifier:
    """Return the identifier of one group: its name, and a UID that derives from the index."""
    return sr.TrackingIdentifier(uid=given.context.derive_uid("tracking", *index), identifier=name)


def algorithm(model: ModelCard | None) -> sr.AlgorithmIdentification | None:
    """Return TID 4019 with the values that ContributingEquipment has."""
    if model is None:
        return None
    version, digest = software_versions(model)
    return sr.AlgorithmIdentification(
        name=model.name,
        version=version,
        parameters=[f"weights digest {digest}"],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def finding_site(key: str, laterality: str | None) -> sr.FindingSite:
    """Return where a finding is: a site or a region of the brain (code keys), with its side."""
    side = codes.LATERALITY[laterality] if laterality else None
    if codes.is_region(key):
        return sr.FindingSite(codes.BRAIN, laterality=side, topographical_modifier=codes.site_code(key))
    return sr.FindingSite(codes.site_code(key), laterality=side)


def evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    """Return a coded statement."""
    return sr.QualitativeEvaluation(name=name, value=value)
