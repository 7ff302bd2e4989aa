"""Builder of the objects on a whole study: page, text SR, TID 1500 SR and, where it is wanted, PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.errors import ResultError
from dicom_node.results.build import FOREIGN_ERRORS
from dicom_node.results.manifest import ResultObject, Role
from dicom_node.results.provenance import finish
from dicom_node.results.stored_object import store
from dicom_node.results.structured_report import add_predecessors
from dicom_node.study.coded_summary import coded_summary
from dicom_node.study.content import StudyContent
from dicom_node.study.page import draw_page
from dicom_node.study.page_objects import encapsulated_pdf, page_capture, page_pdf
from dicom_node.study.text_summary import text_summary

PICTURE: Final = "report.png"
PDF: Final = "report.pdf"
REFERRED_TO: Final = frozenset({"seg", "sr", "text-sr", "change-seg", "change-sr", "change-text"})
"""Roles of the results of single series that the reports on a study refer to."""


def write_report(content: StudyContent, out: Path) -> list[Path]:
    """Write the page as PNG and PDF, for whoever has no viewer, and return the files."""
    page = draw_page(content)
    Image.fromarray(page).save(out / PICTURE)
    (out / PDF).write_bytes(page_pdf(page, content.context.created_at))
    return [out / PICTURE, out / PDF]


def build_summary(content: StudyContent, out: Path, *, pdf: bool = False) -> list[ResultObject]:
    """Write the objects on a study into a folder, and return what was written; the same content gives the same bytes.

    Raises
    ------
    ResultError
        They can't be built from these results, or not be written.
    """
    try:
        return _build(content, out, pdf)
    except OSError as error:
        raise ResultError(f"the page can't be written to {out}: {error.strerror}") from error
    except FOREIGN_ERRORS as error:
        # Their texts may quote values of the source, so only the kind goes into a line that may be logged.
        raise ResultError(f"the page can't be built from these results: {type(error).__name__}") from error


def _build(content: StudyContent, out: Path, pdf: bool) -> list[ResultObject]:
    page = draw_page(content)
    capture = _finished(page_capture(page), content, "summary")
    images = [part.source for part in (*content.shown, *content.others)]
    parts = [
        dcmread(part.folder / item.path, stop_before_pixels=True)
        for part in content.parts
        for item in part.objects
        if item.role in REFERRED_TO
    ]
    evidence = [*images, *parts, capture]
    made: list[tuple[Role, Dataset]] = [("summary", capture)]
    text = _finished(text_summary(content, evidence), content, "summary-text")
    add_predecessors(text, content.context)
    made.append(("summary-text", text))
    for role in ("summary-sr", "summary-sr-enhanced"):
        enhanced = role == "summary-sr-enhanced"
        coded = coded_summary(content, [*evidence, text], _uids(content, role), enhanced=enhanced)
        made.append((role, _finished(coded, content, role)))
        add_predecessors(coded, content.context)
    if pdf:
        document = encapsulated_pdf(page_pdf(page, content.context.created_at))
        made.append(("summary-pdf", _finished(document, content, "summary-pdf")))
    return [_store(ds, role, out) for role, ds in made]


def _finished(ds: Dataset, content: StudyContent, role: Role) -> Dataset:
    """Set what all objects share; both forms of the coded report are of one series."""
    finish(ds, source=content.source, context=content.context, models=content.models, role=role)
    ds.SeriesInstanceUID = _uids(content, role)[0]
    return ds


def _uids(content: StudyContent, role: Role) -> tuple[str, str]:
    series = "summary-sr" if role == "summary-sr-enhanced" else role
    return content.context.derive_uid(series, "series"), content.context.derive_uid(role, "instance")


def _store(ds: Dataset, role: Role, out: Path) -> ResultObject:
    return store(ds, role, out / f"{role}.dcm")
