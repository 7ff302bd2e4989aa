"""Builder of what a comparison of two examinations gives: objects of the current study, and the record beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from dicom_node.errors import ResultError
from dicom_node.results.build import FOREIGN_ERRORS
from dicom_node.results.change_pictures import build_change_pictures, change_pairs, write_page_pictures
from dicom_node.results.change_report import ChangeInput, build_change_report
from dicom_node.results.change_segmentation import build_change_segmentation, change_segments
from dicom_node.results.change_text import build_change_text
from dicom_node.results.comparison_record import ComparisonRecord, told_changes
from dicom_node.results.context import ResultContext
from dicom_node.results.finding_marks import Marks
from dicom_node.results.manifest import ResultObject, Role
from dicom_node.results.report_items import ReportInput
from dicom_node.results.source import sources_of
from dicom_node.results.stored_object import store
from dicom_node.results.structured_report import as_enhanced
from dicom_node.results.tracking import TrackedLesion
from dicom_node.series.identity import identity_of, mixture
from dicom_node.series.reading import tolerant
from dicom_node.standard.codes import UnknownCodeError
from pipelines.comparison import Comparison
from pipelines.types import Findings

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries


def build_comparison(
    comparison: Comparison,
    current: LoadedSeries,
    prior: LoadedSeries,
    context: ResultContext,
    tracking: Mapping[int, TrackedLesion],
    out: Path,
) -> list[ResultObject]:
    """Write what a comparison gives into ``out``, and return the objects: all of the current study, none of the prior's.

    A SEG of what has changed, where something has; the structured report (and, beside it, the same tree as Enhanced SR) and the
    text report always; a picture of each change in both images. Beside them lie the record and the pictures of the page.
    The same arguments give the same bytes.

    Parameters
    ----------
    current, prior : LoadedSeries
        Of one patient and of two studies; of the prior the headers are enough.
    tracking : mapping of int to TrackedLesion
        By the ID of the lesion in the current findings; of resolved ones by the negative ID of the prior lesion.

    Raises
    ------
    ResultError
        Both are of one study or of two patients, or an object would lie in another study than the current one. Or the
        comparison can't be encoded: labels on another grid, a source that lacks what its SOP class requires; or the files
        can't be written.
    """
    try:
        return _build(comparison, current, prior, context, tracking, out)
    except UnknownCodeError as error:
        raise ResultError(str(error)) from error
    except OSError as error:
        raise ResultError(f"the objects can't be written to {out}: {error.strerror}") from error
    except FOREIGN_ERRORS as error:
        # Their texts may quote values of the source, so only the kind goes into a line that may be logged.
        raise ResultError(f"the comparison can't be told of this source: {type(error).__name__}") from error


def _build(
    comparison: Comparison,
    current: LoadedSeries,
    prior: LoadedSeries,
    context: ResultContext,
    tracking: Mapping[int, TrackedLesion],
    out: Path,
) -> list[ResultObject]:
    study_uid = _current_study(current, prior)
    sources, priors = sources_of(current), sources_of(prior)
    changes = told_changes(comparison)
    segments = change_segments(comparison, changes, current.volume)
    pairs = change_pairs(comparison, changes, current, sources)
    images = {pair.change.number: pair.place.image_number for pair in pairs}
    pictures = write_page_pictures(pairs, out)
    record = ComparisonRecord.of(comparison, current, prior, tracking, images, pictures)
    objects: list[ResultObject] = []

    def store(ds: Dataset, role: Role, name: str) -> None:
        objects.append(_store(ds, role, out / name, study_uid))

    segmentation = None
    if segments:
        segmentation = build_change_segmentation(segments, comparison.models, current, sources, context)
        store(segmentation, "change-seg", "change-seg.dcm")
    told = Findings("findings" if changes else "none", models=comparison.models)
    base = ReportInput(told, current, sources, segmentation, context, Marks(), frames={})
    report = build_change_report(ChangeInput(base, record, segments, comparison.labels, priors))
    store(report, "change-sr", "change-sr.dcm")
    store(as_enhanced(report, context, "change-sr-enhanced"), "change-sr-enhanced", "change-sr-enhanced.dcm")
    store(build_change_text(record, sources, priors, segmentation, context), "change-text", "change-text.dcm")
    for name, picture in build_change_pictures(pairs, record, comparison.models, context):
        store(picture, "change-picture", name)
    record.write(out)
    return objects


def _current_study(current: LoadedSeries, prior: LoadedSeries) -> str:
    """Return the study that every object is of; raise ResultError where both series are of it, or of two patients."""
    if not current.datasets or not prior.datasets:
        raise ResultError("a comparison needs images of both examinations to refer to")
    with tolerant():
        studies = {str(ds.get("StudyInstanceUID", "")) for ds in current.datasets}
        priors = {str(ds.get("StudyInstanceUID", "")) for ds in prior.datasets}
        # issuers may differ where the configuration says so, frames of reference always do
        identities = {
            ("", replace(identity_of(ds), issuer="", frame_of_reference=""))
            for ds in (*current.datasets, *prior.datasets)
        }
    if len(studies) != 1 or studies & priors:
        raise ResultError("the prior is of the study that it is compared with: nothing is written")
    if mixture(identities) is not None:
        raise ResultError("the prior is of another patient: nothing is written")
    return studies.pop()


def _store(ds: Dataset, role: Role, path: Path, study_uid: str) -> ResultObject:
    """Write one object; raise ResultError for one of another study than the current one."""
    if str(ds.StudyInstanceUID) != study_uid:
        raise ResultError(f"{path.name} would lie in another study than the current one: it is not written")
    return store(ds, role, path)
