"""Check before sending: is the study at the destination of the patient whose results are sent?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from pydicom import dcmread
from sqlalchemy import distinct, func, select

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import RejectedError, Timeouts
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.c_find import FindBrokenError, FindRefusedError, c_find_patients
from dicom_node.deliver.object_states import Change, ObjectStates
from dicom_node.errors import NodeError, UnreadableError
from dicom_node.jobs.schema import ObjectRow
from dicom_node.jobs.states import ObjectState
from dicom_node.jobs.store import Store
from dicom_node.series.identity import Identity, identity_of
from dicom_node.series.reading import tolerant
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog

COMPARED = {"patient_id": "patient ID", "issuer": "issuer of patient ID", "birth_date": "birth date"}
KEYWORDS = ["StudyInstanceUID", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName"]
ASK_AGAIN_S = 3600.0
"""A destination that answers no C-FIND is not asked again for so long."""

OTHER_PATIENT = "the study is another patient's there"
"""How the reason of objects begins that are not sent for it."""


class PatientCheck:
    """Asks one destination whose study it has, before anything is sent into that study.

    Parameters
    ----------
    mode : "known", "required" or "off"
        A study that is not there: is sent all the same, or waits for it; or nothing is asked.
    """

    def __init__(
        self,
        destination: str,
        address: Address,
        mode: Literal["known", "required", "off"],
        *,
        states: ObjectStates,
        spool: Spool,
        worklog: Worklog,
        ae_title: str,
        backoff: Backoff,
        timeouts: Timeouts,
        clock: Callable[[], float],
    ) -> None:
        self._destination, self._address, self._mode = destination, address, mode
        self._states, self._spool, self._worklog = states, spool, worklog
        self._ae_title, self._backoff, self._timeouts, self._clock = ae_title, backoff, timeouts, clock
        self._not_before = 0.0  # monotonic
        self._broken = 0  # in a row
        self._waits: dict[str, int] = {}  # by job
        self._told: set[tuple[str, int]] = set()  # jobs and runs sent without their study being there
        self._refusal = ""  # that was told

    def may_send(self, job_id: str, rows: list[ObjectRow]) -> bool:
        """Tell whether objects of a job may be sent now; those that may not are recorded with their reason.

        Raises
        ------
        DeliveryError
            The destination can't be reached, or rejects associations where it must be asked.
        """
        if self._mode == "off" or time.monotonic() < self._not_before:
            return True
        try:
            study_uid, patient = self._of(rows[0])
        except (NodeError, OSError):
            return True  # the sending says what is wrong with the file
        try:
            found = c_find_patients(self._address, self._ae_title, study_uid, timeouts=self._timeouts)
        except RejectedError:
            if self._mode == "required":
                raise
            return True  # the sending is rejected as well, and says so
        except (FindRefusedError, FindBrokenError) as error:
            return self._unanswered(job_id, rows, error)
        self._broken = 0
        return self._judge(job_id, rows, patient, found)

    def _of(self, row: ObjectRow) -> tuple[str, Identity]:
        """Return study and patient that an object of ours names."""
        path = self._spool.absolute(row.path)
        try:
            with tolerant():
                ds = dcmread(path, stop_before_pixels=True, specific_tags=KEYWORDS)
                return str(ds.StudyInstanceUID), identity_of(ds)
        except OSError:
            raise
        except Exception as error:  # a file that somebody meddled with
            raise UnreadableError(f"{path.name}: not readable as DICOM") from error

    def _judge(self, job_id: str, rows: list[ObjectRow], patient: Identity, found: set[Identity]) -> bool:
        if differing := [
            name
            for part, name in COMPARED.items()
            if getattr(patient, part)
            and {getattr(there, part) for there in found} - {"", getattr(patient, part)}
        ]:
            self._waits.pop(job_id, None)
            self._hold(job_id, rows, differing)
            return False
        if not found and self._mode == "required":
            self._wait(job_id, rows, 'the study is not there yet (verify_patient = "required")')
            return False
        self._waits.pop(job_id, None)
        if not found and (job_id, rows[0].run) not in self._told:
            self._told.add((job_id, rows[0].run))
            self._tell_unverified(job_id, rows, "the study is not there, so that nothing tells whose it is")
        return True

    def _hold(self, job_id: str, rows: list[ObjectRow], differing: list[str]) -> None:
        """Give up sending until a person asks for it again, or the images come again, corrected."""
        verb = "differs" if len(differing) == 1 else "differ"
        way_out = f"have it corrected there, or the images sent again, corrected; then dicom-node retry {job_id[:8]}"
        reason = f"{OTHER_PATIENT} ({', '.join(differing)} {verb}): {way_out}"
        self._states.record([Change(row, ObjectState.FAILED, reason) for row in rows])
        self._worklog.write(
            "other-patient", job_id, destination=self._destination, objects=len(rows), reason=reason
        )

    def _unanswered(
        self, job_id: str, rows: list[ObjectRow], error: FindRefusedError | FindBrokenError
    ) -> bool:
        """Go on without an answer, or wait for one where it is required, or where the destination only broke off."""
        if isinstance(error, FindBrokenError):
            self._broken += 1
            if self._broken < self._backoff.find_tries:
                self._wait(job_id, rows, str(error))
                return False
        reason = f"{error}: nothing tells whose the study is; allow queries by {self._ae_title} there"
        if self._mode == "required":
            self._wait(job_id, rows, f'{reason}, or set verify_patient = "known"')
            return False
        self._not_before = time.monotonic() + ASK_AGAIN_S
        if reason != self._refusal:
            self._refusal = reason
            self._tell_unverified(job_id, rows, reason)
        return True

    def _wait(self, job_id: str, rows: list[ObjectRow], reason: str) -> None:
        self._waits[job_id] = self._waits.get(job_id, 0) + 1
        wait_s = self._backoff.wait_s(self._waits[job_id])
        next_at = self._clock() + wait_s
        self._states.record([Change(row, ObjectState.PENDING, reason, next_at) for row in rows])
        self._worklog.write(
            "delivery-retry",
            job_id,
            destination=self._destination,
            reason=reason,
            objects=len(rows),
            wait_s=wait_s,
        )

    def _tell_unverified(self, job_id: str, rows: list[ObjectRow], reason: str) -> None:
        self._worklog.write(
            "unverified", job_id, destination=self._destination, objects=len(rows), reason=reason
        )


def jobs_of_other_patients(store: Store, destination: str) -> tuple[int, int]:
    """Return how many jobs are held for a destination that has their studies under other patients, and how many it has got."""
    of_destination = select(func.count(distinct(ObjectRow.job_id))).where(
        ObjectRow.destination == destination
    )
    held = of_destination.where(
        ObjectRow.state == ObjectState.FAILED, ObjectRow.reason.startswith(OTHER_PATIENT)
    )
    sent = of_destination.where(ObjectRow.state.in_((ObjectState.SENT, ObjectState.CONFIRMED)))
    with store.reading() as session:
        return session.scalar(held) or 0, session.scalar(sent) or 0
