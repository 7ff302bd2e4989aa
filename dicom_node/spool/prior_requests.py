"""Requests for series of earlier studies, as files written before an archive is asked: so what comes is known for what it is.

``priors/requests/<series>.json``. A series whose first image came while its request was valid is kept as a prior: no job is
made of it, and nothing is sent into its study. Files of images tell when they came, so that a crash between the request, the
arrival and the verdict changes nothing.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import write_durably
from dicom_node.spool.series_folder import make_folder
from dicom_node.spool.spool import Spool
from dicom_node.standard.uids import uid_key

LOGGER = logging.getLogger(__name__)

FOLDER = "priors"
NOT_WHOLE = "asked for as a prior, and not whole"
"""How the reason of a series begins that was asked for, and of which images may still come."""
CLOCK_SLACK_S = 1.0
"""How much earlier than the request a file may seem to have come: times of files are coarser than ours."""
FORGOTTEN_AFTER_S = 86400.0
"""How long after its validity a request is kept that nothing came of: images may wait in the inbox for as long."""


@dataclass(frozen=True)
class PriorRequest:
    """Request for one series of an earlier study.

    Attributes
    ----------
    series_uid, study_uid : str
        What was asked for.
    job_id : str
        For which job.
    asked_at, valid_until : float
        UTC seconds since the epoch, of the first time that it was asked for and of the end of the wait.
    kept : bool
        It has come and is a prior, whatever comes of its files.
    """

    series_uid: str
    study_uid: str
    job_id: str
    asked_at: float
    valid_until: float
    kept: bool = False


class PriorRequests:
    """The requests of one node; every method may be called from any thread.

    Parameters
    ----------
    spool : Spool
        Where they and the images lie.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._folder = spool.root / FOLDER / "requests"
        self._lock = threading.Lock()

    def ask(self, series_uid: str, study_uid: str, job_id: str, now: float, valid_s: float) -> PriorRequest:
        """Write down that a series is asked for; durable at the return. One that is asked for again began when it first was.

        Raises
        ------
        SpoolError
            It can't be written, so that it must not be asked for.
        """
        with self._lock:
            known = self._read(self._path(series_uid))
            request = PriorRequest(
                series_uid,
                study_uid,
                job_id,
                known.asked_at if known else now,
                max(now + valid_s, known.valid_until if known else 0.0),
                known.kept if known else False,
            )
            self._write(request)
            return request

    def extend(self, series_uid: str, until: float) -> None:
        """Let a request be valid longer, since the archive is still at it."""
        with self._lock:
            known = self._read(self._path(series_uid))
            if known is not None and known.valid_until < until:
                self._write(replace(known, valid_until=until))

    def of(self, series_uid: str) -> PriorRequest | None:
        """Return the request for a series, valid or not; None where it was never asked for."""
        return self._read(self._path(series_uid))

    def that_brought(self, series_uid: str) -> PriorRequest | None:
        """Return the request that brought a series that lies in the spool, and note that it did; None for any other series.

        Raises
        ------
        SpoolError
            That can't be noted.
        """
        path = self._path(series_uid)
        if not path.exists():
            return None
        with self._lock:
            request = self._read(path)
            if request is None or request.kept:
                return request
            came_at = self._first_came_at(series_uid)
            if came_at is None or not request.asked_at - CLOCK_SLACK_S <= came_at <= request.valid_until:
                return None
            request = replace(request, kept=True)
            self._write(request)
            return request

    def withdraw(self, series_uid: str) -> None:
        """Forget the request for a series: from now on it is one like any other."""
        with self._lock:
            withdraw_request(self._spool, series_uid)

    def forget_old(self, now: float) -> None:
        """Forget requests that nothing came of and nothing will."""
        for path in self._folder.glob("*.json"):
            request = self._read(path)
            if request is not None and not request.kept and request.valid_until + FORGOTTEN_AFTER_S < now:
                self.withdraw(request.series_uid)

    def _path(self, series_uid: str) -> Path:
        return self._folder / f"{uid_key(series_uid)}.json"

    def _write(self, request: PriorRequest) -> None:
        make_folder(self._folder.parent)
        make_folder(self._folder)
        write_durably(self._path(request.series_uid), json.dumps(asdict(request), indent=1))

    def _read(self, path: Path) -> PriorRequest | None:
        try:
            return PriorRequest(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            LOGGER.warning("%s: no request for a prior: %s", path.name, type(error).__name__)
            return None

    def _first_came_at(self, series_uid: str) -> float | None:
        folder = self._spool.series_folder(series_uid)
        return min((path.stat().st_mtime for path in folder.glob("*.dcm")), default=None)


def withdraw_request(spool: Spool, series_uid: str) -> None:
    """Remove the request for a series, if there is one.

    Raises
    ------
    SpoolError
        It can't be removed.
    """
    path = spool.root / FOLDER / "requests" / f"{uid_key(series_uid)}.json"
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SpoolError(f"{path}: can't be removed: {error.strerror}") from error
