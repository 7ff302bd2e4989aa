"""Retrieval of one series in the way that the configuration says."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.priors.archive import Archive
from dicom_node.priors.arrival import Arrival, Takes
from dicom_node.priors.c_get import c_get
from dicom_node.priors.c_move import c_move
from dicom_node.priors.wado import wado_series
from dicom_node.spool.spool import Spool


def retrieve(
    archive: Archive,
    study_uid: str,
    series_uid: str,
    *,
    spool: Spool,
    takes: Takes,
    on_progress: Callable[[], None],
) -> str:
    """Have a series come into the inbox; return what the archive says of it.

    Raises
    ------
    AskAgainError
        A later try may succeed.
    PriorError
        It does not give it.
    SpoolError
        It can't be written.
    """
    if archive.section.retrieve == "move":
        return c_move(archive, study_uid, series_uid, on_progress)
    with Arrival(
        spool,
        takes,
        calling_ae=archive.address.ae_title,
        address=archive.address.host,
        called_ae=archive.ae_title,
    ) as arrival:
        if archive.section.retrieve == "get":
            return c_get(archive, study_uid, series_uid, on_progress, arrival)
        return wado_series(archive, study_uid, series_uid, on_progress, arrival)
