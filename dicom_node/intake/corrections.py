"""Corrections: copies of known images that name another patient or study, as archives send them after a merge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dicom_node.intake.judge import Jobs
from dicom_node.jobs.reconcile import RECALLED
from dicom_node.jobs.schema import ImageRow
from dicom_node.jobs.store import Store
from dicom_node.series.headers import ImageHeader
from dicom_node.series.identity import is_correction

CORRECTED = "its images came again under another patient or study"
"""Reason of a series that is judged again, and of a job that was taken back."""

PRIOR_CORRECTED = "the images of its prior came again under another patient or study"
"""Reason of a comparison that was taken back."""


class Corrections:
    """Lets the later identity of images count for everything that is not delivered yet.

    Parameters
    ----------
    store : Store
        The node's database.
    jobs : Jobs
        Takes back the jobs of a series whose results are not delivered.
    header_of : callable
        Gives the header that the database has of an image.
    reopen : callable
        Has a series judged again, on its Series Instance UID.
    """

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        header_of: Callable[[ImageRow], ImageHeader],
        reopen: Callable[[str], None],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._header_of = header_of
        self._reopen = reopen

    def is_one(self, header: ImageHeader) -> bool:
        """Tell whether a copy with this header names another patient or study than the image that is known."""
        row = self._store.image(header.sop_instance_uid)
        if row is None or row.series_uid != header.series_uid:
            return False
        known = self._header_of(row)
        return is_correction((known.study_uid, known.identity), (header.study_uid, header.identity))

    def take(self, headers: Sequence[ImageHeader], at: float) -> None:
        """Let corrected copies count that lie in the places of the earlier ones.

        The headers come last: a crash before them makes the copies come again, and everything here can be done twice.
        """
        for series_uid in dict.fromkeys(header.series_uid for header in headers):
            self._reopen(series_uid)
            for job in self._store.jobs_of(series_uid):
                self._jobs.recall(job.id, CORRECTED)
            for job in self._store.comparisons_with(series_uid, *RECALLED):
                self._jobs.recall(job.id, PRIOR_CORRECTED)
        self._store.correct_images(headers, at)
