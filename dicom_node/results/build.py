"""Builder of a result folder: findings become files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_node.errors import ResultError
from dicom_node.results.context import ResultContext
from dicom_node.results.finding_marks import marks_of
from dicom_node.results.heatmap import build_heatmaps
from dicom_node.results.manifest import ResultObject, Role
from dicom_node.results.outline import build_outlines
from dicom_node.results.segmentation import build_segmentation, segments_shown
from dicom_node.results.source import sources_of
from dicom_node.results.stored_object import store
from dicom_node.results.structured_report import as_enhanced, build_structured_report
from dicom_node.results.text_report import build_text_report
from dicom_node.series.identity import Identity, identity_of, mixture
from dicom_node.series.reading import tolerant
from dicom_node.standard.codes import UnknownCodeError
from pipelines.types import Findings

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries


FOREIGN_ERRORS = (AttributeError, LookupError, TypeError, ValueError)
"""What highdicom and pydicom raise over sources that lack or break what their class requires."""


def build_results(
    findings: Findings, series: LoadedSeries, context: ResultContext, out: Path
) -> list[ResultObject]:
    """Write every object that the findings call for into ``out``, and return what was written.

    A SEG, and outlines as pictures, where something was found; the structured report (and, beside it, the same tree as Enhanced
    SR) and the text report always; heatmaps where the analysis ran. With ``when_unsuitable = "silent"`` an unsuitable series
    gives nothing.
    The same arguments give the same bytes.

    Raises
    ------
    ResultError
        The sources, or an object and its sources, are of more than one patient or study; nothing stays written then. Or the
        findings can't be encoded: no source image, a mask on another grid, an unknown code key, a source that lacks
        what its SOP class requires; or the files can't be written.
    """
    if findings.status == "unsuitable" and context.when_unsuitable == "silent":
        return []
    try:
        return _build(findings, series, context, out)
    except UnknownCodeError as error:
        raise ResultError(str(error)) from error
    except OSError as error:
        raise ResultError(f"the objects can't be written to {out}: {error.strerror}") from error
    except FOREIGN_ERRORS as error:
        # Their texts may quote values of the source, so only the kind goes into a line that may be logged.
        raise ResultError(f"the objects can't be built from this source: {type(error).__name__}") from error


def _build(findings: Findings, series: LoadedSeries, context: ResultContext, out: Path) -> list[ResultObject]:
    identities = _identities(series.datasets)
    _require_one_patient(identities)
    sources = sources_of(series)
    objects: list[ResultObject] = []
    segmentation = None
    is_outlined = findings.status == "findings" and bool(segments_shown(findings))
    if is_outlined:
        segmentation = build_segmentation(findings, series, sources, context)
        objects.append(_store(segmentation, "seg", "seg.dcm", out, identities))
    marks = marks_of(findings, series.volume)
    report = build_structured_report(findings, series, sources, segmentation, context, marks)
    objects.append(_store(report, "sr", "sr.dcm", out, identities))
    text = build_text_report(findings, series, sources, segmentation, context, marks)
    objects.append(_store(text, "text-sr", "text-sr.dcm", out, identities))
    if is_outlined:
        for name, outline in build_outlines(findings, series, sources, context):
            objects.append(_store(outline, "outline", name, out, identities))
    if findings.status in ("findings", "none") and series.volume is not None:
        for name, heatmap in build_heatmaps(findings, series, sources, context):
            objects.append(_store(heatmap, "heatmap", name, out, identities))
    objects.append(_store(as_enhanced(report, context), "sr-enhanced", "sr-enhanced.dcm", out, identities))
    return objects


def _store(
    ds: Dataset, role: Role, name: str, out: Path, identities: frozenset[tuple[str, Identity]]
) -> ResultObject:
    _require_one_patient(identities | _identities([ds]))
    return store(ds, role, out / name)


def _identities(datasets: Iterable[Dataset]) -> frozenset[tuple[str, Identity]]:
    """Return study and identity of each dataset, alike ones once."""
    with tolerant():
        return frozenset((str(ds.get("StudyInstanceUID", "")), identity_of(ds)) for ds in datasets)


def _require_one_patient(identities: Iterable[tuple[str, Identity]]) -> None:
    """Raise ResultError when these are not all of one patient and one study: no result may be filed under the wrong one."""
    found = mixture(identities)
    if found is not None and not found.may_be_released:
        raise ResultError(f"{found.reason}: nothing is written, since it would lie with one of them")
