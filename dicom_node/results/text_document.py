"""Basic Text SR (PS3.3 A.35.1, PS3.16 TID 2000): headed sections with paragraphs, for whatever a report says in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage

from dicom_node.results.context import ResultContext
from dicom_node.results.provenance import MODEL_NAME, code_item
from dicom_node.standard import codes

LINE_END: Final = "\r\n"
PROCEDURE: Final = (
    Code("121064", "DCM", "Current Procedure Descriptions"),
    Code("121065", "DCM", "Procedure Description"),
)
FINDINGS: Final = (Code("121070", "DCM", "Findings"), Code("121071", "DCM", "Finding"))
IMPRESSIONS: Final = (Code("121072", "DCM", "Impressions"), Code("121073", "DCM", "Impression"))
ADDENDUM: Final = (Code("121078", "DCM", "Addendum"), codes.COMMENT)
CONCLUSIONS: Final = (Code("121076", "DCM", "Conclusions"), Code("121077", "DCM", "Conclusion"))
"""Sections: the concept of the heading, and that of each paragraph."""

_LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
_ENGLISH = Code("en", "RFC5646", "English")
_OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
_DEVICE = Code("121007", "DCM", "Device")
_OBSERVER_UID = Code("121012", "DCM", "Device Observer UID")
_OBSERVER_NAME = Code("121013", "DCM", "Device Observer Name")
_LINE = 88
"""Characters after which a finding goes on in a new line, where it has a clause to end: some viewers do not wrap findings."""
_CLAUSE = re.compile(r"(?<=[,.;:]) | (?=\()")


def text_document(
    sections: Iterable[Dataset | None], evidence: Iterable[Dataset], context: ResultContext
) -> Dataset:
    """Return a text SR that `dicom_node.results.provenance.finish` has not finished yet.

    Parameters
    ----------
    sections : iterable of Dataset or None
        As `section` makes them, in the order in which they are read.
    evidence : iterable of Dataset
        The instances, of one study, that the report speaks of.
    """
    ds = Dataset()
    ds.SOPClassUID = BasicTextSRStorage
    ds.Modality = "SR"
    ds.ReferencedPerformedProcedureStepSequence = []
    ds.PerformedProcedureCodeSequence = []
    ds.CompletionFlag = "COMPLETE"
    ds.VerificationFlag = "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY"
    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.ConceptNameCodeSequence = [code_item(codes.REPORT)]
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "2000"
    ds.ContentTemplateSequence = [template]
    ds.ContentSequence = [
        _code("HAS CONCEPT MOD", _LANGUAGE, _ENGLISH),
        _code("HAS OBS CONTEXT", _OBSERVER_TYPE, _DEVICE),
        _uid("HAS OBS CONTEXT", _OBSERVER_UID, context.node_uid),
        _text("HAS OBS CONTEXT", _OBSERVER_NAME, f"{MODEL_NAME} {context.node_version}, {context.node_id}"),
        *(item for item in sections if item is not None),
    ]
    ds.CurrentRequestedProcedureEvidenceSequence = [_evidence(evidence)]
    return ds


def in_lines(text: str) -> str:
    """Return a text in lines of some `_LINE` characters that end where a clause does."""
    lines = [""]
    for clause in _CLAUSE.split(text):
        if lines[-1] and len(lines[-1]) + 1 + len(clause) > _LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {clause}".strip()
    return LINE_END.join(lines)


def section(heading: tuple[Code, Code], texts: Iterable[str]) -> Dataset | None:
    """Return a section with its paragraphs, or nothing when there is none."""
    name, kind = heading
    items = [_text("CONTAINS", kind, text) for text in texts if text]
    if not items:
        return None
    made = _item("CONTAINS", "CONTAINER", name)
    made.ContinuityOfContent = "SEPARATE"
    made.ContentSequence = items
    return made


def _item(relationship: str, value_type: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [code_item(name)]
    return item


def _text(relationship: str, name: Code, text: str) -> Dataset:
    item = _item(relationship, "TEXT", name)
    item.TextValue = text
    return item


def _code(relationship: str, name: Code, value: Code) -> Dataset:
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = [code_item(value)]
    return item


def _uid(relationship: str, name: Code, uid: str) -> Dataset:
    item = _item(relationship, "UIDREF", name)
    item.UID = uid
    return item


def _evidence(instances: Iterable[Dataset]) -> Dataset:
    """Return the images and masks that the report speaks of, by series (PS3.3 C.17.2.3)."""
    by_series: dict[str, list[Dataset]] = {}
    study = ""
    for instance in instances:
        study = instance.StudyInstanceUID
        reference = Dataset()
        reference.ReferencedSOPClassUID = instance.SOPClassUID
        reference.ReferencedSOPInstanceUID = instance.SOPInstanceUID
        by_series.setdefault(instance.SeriesInstanceUID, []).append(reference)
    evidence = Dataset()
    evidence.StudyInstanceUID = study
    evidence.ReferencedSeriesSequence = []
    for series_uid, references in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID = series_uid
        item.ReferencedSOPSequence = references
        evidence.ReferencedSeriesSequence.append(item)
    return evidence
