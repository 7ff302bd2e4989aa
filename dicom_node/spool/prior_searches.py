"""Searches for the earlier studies of a job's patient, as files: ``priors/<job>.json``, with each step for whoever asks why.

Of the patient stands nothing in them but UIDs and dates of studies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from dicom_node.errors import SpoolError, StateError
from dicom_node.spool.durable import write_durably
from dicom_node.spool.prior_requests import FOLDER
from dicom_node.spool.series_folder import make_folder
from dicom_node.spool.spool import Spool

MOST_STEPS = 100
"""So many steps of a search are kept, the last ones."""


@dataclass
class PriorSearch:
    """Search for the earlier studies of one job's patient.

    Attributes
    ----------
    job_id : str
        Of the job.
    run : int
        Of the job, after which it is done.
    state : "waiting" or "done"
        Waiting: until `next_at`, in UTC seconds since the epoch.
    tries : int
        How often the archive was asked and could not answer.
    reason : str
        What came of it, in one line.
    priors : list of str
        Series Instance UIDs of the priors that were found, the chosen one first, then the newest.
    choice : str
        Which prior was chosen and why, in one line.
    others : list of str
        The other priors that were there, each by day and grade ("2025-03-01 (C)").
    steps : list of (float, str)
        What was done when, oldest first.
    """

    job_id: str
    run: int
    state: Literal["waiting", "done"] = "waiting"
    next_at: float = 0.0
    tries: int = 0
    reason: str = ""
    priors: list[str] = field(default_factory=list)
    choice: str = ""
    others: list[str] = field(default_factory=list)
    steps: list[tuple[float, str]] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add a step; what the last one said already is not said again."""
        if not self.steps or self.steps[-1][1] != text:
            self.steps = [*self.steps, (time.time(), text)][-MOST_STEPS:]


def write_search(spool: Spool, search: PriorSearch) -> None:
    """Write a search, durably, in place of what was known of it.

    Raises
    ------
    SpoolError
        It can't be written.
    """
    make_folder(spool.root / FOLDER)
    write_durably(_path(spool, search.job_id), json.dumps(asdict(search), indent=1))


def read_search(spool: Spool, job_id: str) -> PriorSearch | None:
    """Return the search of a job; None where none was begun.

    Raises
    ------
    StateError
        The file is none.
    """
    path = _path(spool, job_id)
    try:
        search = PriorSearch(**json.loads(path.read_text()))
        search.steps = [(float(at), str(text)) for at, text in search.steps]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise StateError(
            f"{path}: not the search for priors of a job ({type(error).__name__}): remove it"
        ) from error
    return search


def searches(spool: Spool) -> Iterator[str]:
    """Yield the IDs of the jobs that a search was begun for."""
    for path in sorted((spool.root / FOLDER).glob("*.json")):
        yield path.stem


def forget_search(spool: Spool, job_id: str) -> None:
    """Remove the search of a job that is removed.

    Raises
    ------
    SpoolError
        It can't be removed.
    """
    path = _path(spool, job_id)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SpoolError(f"{path}: can't be removed: {error.strerror}") from error


def _path(spool: Spool, job_id: str) -> Path:
    return spool.root / FOLDER / f"{job_id}.json"
