"""Context of the result objects, from the job that made them; nothing in it depends on the clock or the machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydicom.uid import UID, generate_uid


@dataclass(frozen=True)
class ResultContext:
    """The job, run and settings behind a set of result objects.

    Parameters
    ----------
    node_id : str
        The node's own ID; becomes DeviceSerialNumber (0018,1000).
    title : str
        What a reader calls the pipeline ("FLAIR lesions").
    created_at : datetime
        Aware, fixed for each run: every date and time of the objects, so that a retry sends the same bytes.
    replaces : tuple of (SOP class UID, SOP instance UID, series UID, study UID)
        Objects of an earlier result that these ones replace.
    snomed_scheme : str
        Coding scheme designator for the diseases that DICOM's value sets lack.
    other_priors : tuple of str
        Of a comparison: earlier studies that it could have been made with as well, by day and grade ("2025-03-01 (C)").
    """

    node_id: str
    node_version: str
    job_id: str
    run: int
    pipeline: str
    title: str
    created_at: datetime
    heatmap_slices: Literal["key", "all"] = "key"
    when_unsuitable: Literal["report", "silent"] = "report"
    differential: Literal["text", "coded", "off"] = "text"
    series_number_base: int = 9000
    note: str = ""
    replaces: tuple[tuple[str, str, str, str], ...] = ()
    snomed_scheme: str = "SCT"
    other_priors: tuple[str, ...] = ()

    @property
    def node_uid(self) -> UID:
        """The node's own UID as an observing device, the same in all its results."""
        return generate_uid(entropy_srcs=["node", self.node_id])

    def derive_uid(self, role: str, *index: object) -> UID:
        """Return the UID of one thing in this run's objects: the same at every retry, another in the next run."""
        parts = (self.node_id, self.job_id, self.run, role, *index)
        return generate_uid(entropy_srcs=["|".join(str(part) for part in parts)])
