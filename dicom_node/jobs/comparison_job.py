"""Job of a comparison with a prior: of the current series, known by the analysis that it follows and by its prior."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.errors import StateError
from dicom_node.jobs.schema import JobRow

CHANGE: Final = "change"
"""Stands where other jobs have their pipeline, and is the queue of comparisons."""
TITLE: Final = "FLAIR change"
"""What readers call it."""
FOLLOWS: Final = "flair"
"""Pipeline whose results are compared."""


@dataclass(frozen=True)
class Compared:
    """Two examinations that one job compares.

    Attributes
    ----------
    job_id, run : str, int
        The analysis of the current series.
    prior_uid : str
        Series Instance UID of the prior.
    """

    job_id: str
    run: int
    prior_uid: str

    @property
    def id(self) -> str:
        """ID of the job, 32 hex digits: whichever process makes it, it is the same."""
        text = json.dumps([CHANGE, self.job_id, self.run, self.prior_uid])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def settings(self) -> dict[str, Any]:
        """Return the settings of the job's row."""
        return {"of": self.job_id, "run": self.run, "prior": self.prior_uid}

    @classmethod
    def of(cls, job: JobRow) -> Compared:
        """Return what a job compares.

        Raises
        ------
        StateError
            Its settings do not say so.
        """
        try:
            return cls(str(job.settings["of"]), int(job.settings["run"]), str(job.settings["prior"]))
        except (KeyError, TypeError, ValueError) as error:
            raise StateError(f"job {job.id[:8]} does not say what it compares") from error
