"""Proof of storage by C-FIND, and what follows from its lack: another look, or another try."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.c_find import FindBrokenError, FindRefusedError, Instance, c_find_missing
from dicom_node.deliver.object_states import Change, ObjectStates
from dicom_node.jobs.schema import ObjectRow
from dicom_node.jobs.states import ObjectState
from dicom_node.results.manifest import Manifest
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog


class Prover:
    """Asks one destination for what it took."""

    def __init__(
        self,
        destination: str,
        address: Address,
        *,
        states: ObjectStates,
        spool: Spool,
        worklog: Worklog,
        ae_title: str,
        backoff: Backoff,
        timeouts: Timeouts,
        clock: Callable[[], float],
    ) -> None:
        self._destination, self._address = destination, address
        self._states, self._spool, self._worklog = states, spool, worklog
        self._ae_title, self._backoff, self._timeouts, self._clock = ae_title, backoff, timeouts, clock
        self._broken_finds: Counter[str] = Counter()  # by job

    def prove(self, job_id: str, rows: list[ObjectRow]) -> None:
        """Ask for objects of one job that were sent, and record what follows.

        Raises
        ------
        UnreachableError
            The destination can't be reached; nothing is recorded.
        ResultError
            The job's manifest, which has the UIDs to ask for, can't be read.
        """
        known = {item.sop_instance_uid: item for item in Manifest.read(self._spool.results / job_id).objects}
        asked = [
            Instance(item.study_uid, item.series_uid, item.sop_instance_uid)
            for item in (known[row.sop_instance_uid] for row in rows)
        ]
        try:
            missing = c_find_missing(self._address, self._ae_title, asked, timeouts=self._timeouts)
        except FindRefusedError as error:
            self._give_up_proof(job_id, rows, str(error))
            return
        except FindBrokenError as error:
            self._broken_finds[job_id] += 1
            if self._broken_finds[job_id] >= self._backoff.find_tries:
                self._give_up_proof(job_id, rows, str(error))
            else:
                next_at = self._clock() + self._backoff.wait_s(self._broken_finds[job_id])
                self._states.record([Change(row, ObjectState.SENT, row.reason, next_at) for row in rows])
            return
        del self._broken_finds[job_id]
        shown = [row for row in rows if row.sop_instance_uid not in missing]
        self._states.record([Change(row, ObjectState.CONFIRMED, row.reason) for row in shown])
        if shown:
            self._worklog.write("confirmed", job_id, destination=self._destination, objects=len(shown))
        self._look_again(job_id, [row for row in rows if row.sop_instance_uid in missing])

    def settle(self) -> list[str]:
        """Return the jobs whose answers came otherwise than by asking: none."""
        return []

    def hear(self) -> None:
        """Do nothing: no answer comes otherwise than by asking."""

    def _give_up_proof(self, job_id: str, rows: list[ObjectRow], why: str) -> None:
        reason = f"{why}: no proof; allow queries by {self._ae_title} there"
        self._states.record([Change(row, ObjectState.SENT, reason) for row in rows])
        self._worklog.write(
            "unproven", job_id, destination=self._destination, objects=len(rows), reason=reason
        )
        self._broken_finds.pop(job_id, None)

    def _look_again(self, job_id: str, missing: list[ObjectRow]) -> None:
        """Archives file what they took later; what does not show up for long is sent again, then given up."""
        now = self._clock()
        changes = []
        late = []
        for row in missing:
            since_s = now - row.sent_at
            if since_s < self._backoff.resend_after_s:
                next_at = now + self._backoff.look_again_s(since_s)
                changes.append(Change(row, ObjectState.SENT, row.reason, next_at))
            elif (times := self._states.times_sent(row)) < self._backoff.sends:
                late.append(Change(row, ObjectState.PENDING, "taken and not shown by C-FIND", now, 0))
            else:
                late.append(Change(row, ObjectState.FAILED, f"taken {times} times and never shown by C-FIND"))
        self._states.record(changes + late)
        if late:
            self._worklog.write(
                "missing",
                job_id,
                destination=self._destination,
                objects=len(late),
                reason=late[0].reason,
            )
