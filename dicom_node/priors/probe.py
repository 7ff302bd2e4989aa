"""Probe for ``dicom-node check``: would the archive answer and send, were it asked for an earlier study?"""

from __future__ import annotations

from contextlib import suppress
from datetime import date

from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet

from dicom_node.config.settings import Settings
from dicom_node.deliver.association import NoContextError, associate
from dicom_node.errors import PriorError
from dicom_node.priors.again import BusyError, DeclinedError
from dicom_node.priors.archive import Archive
from dicom_node.priors.c_move import c_move
from dicom_node.priors.examination import Examination, PatientKey
from dicom_node.priors.find import asking, find_studies
from dicom_node.priors.wado import NotThereError, opened
from dicom_node.series.identity import Identity

NOBODY = "DICOM-NODE-CHECK"
"""Patient ID that nobody has."""


def probe_archive(settings: Settings) -> str:
    """Ask the archive for studies of nobody, and for a series that is not there; return what is well.

    Raises
    ------
    NodeError
        It does not answer, or would not send to this node.
    """
    archive = Archive.of(settings)
    study_uid, series_uid = generate_uid(), generate_uid()
    nobody = Examination("", "", study_uid, series_uid, Identity(), date(1900, 1, 2), frozenset(), "", 0)
    with asking(archive.address, archive.ae_title, archive.timeouts) as assoc:
        found = find_studies(assoc, nobody, PatientKey(NOBODY, ""), b"")
    if found:
        raise PriorError(
            f"it shows {len(found)} studies of a patient who does not exist: it does not match by patient ID"
        )
    text = f"{archive.name} answers C-FIND"
    method = archive.section.retrieve
    if method == "move":
        _try_move(archive, study_uid, series_uid)
        return f"{text}, and knows {archive.ae_title} as a move destination"
    if method == "get":
        _try_get(archive)
        return f"{text}, and offers C-GET"
    with suppress(NotThereError):  # as it should be
        opened(archive, study_uid, series_uid).close()
    return f"{text}, and {archive.section.web_url} answers"


def _try_move(archive: Archive, study_uid: str, series_uid: str) -> None:
    """Ask for a series that is not there: who knows us says that there is none, in one way or another."""
    with suppress(BusyError, DeclinedError):
        c_move(archive, study_uid, series_uid, lambda: None)


def _try_get(archive: Archive) -> None:
    context = build_context(StudyRootQueryRetrieveInformationModelGet, ExplicitVRLittleEndian)
    try:
        with associate(archive.address, archive.ae_title, [context], timeouts=archive.timeouts):
            pass
    except NoContextError as error:
        raise PriorError('it offers no C-GET; allow it there, or set [priors] retrieve = "move"') from error
