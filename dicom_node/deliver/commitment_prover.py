"""Proof by storage commitment: what follows from asking a destination for it, and from its answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from pydicom.uid import generate_uid

from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts, UnreachableError
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.commitment_requests import CommitmentRequests
from dicom_node.deliver.commitment_scu import CommitmentBrokenError, CommitmentRefusedError, ask
from dicom_node.deliver.object_states import Change, ObjectStates
from dicom_node.jobs.schema import CommitmentRow, ObjectRow
from dicom_node.jobs.states import ObjectState
from dicom_node.standard.commitment import (
    CLASS_INSTANCE_CONFLICT,
    CLASS_NOT_SUPPORTED,
    DUPLICATE_TRANSACTION,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    RESOURCE_LIMITATION,
    Reference,
    Report,
    Request,
)
from dicom_node.standard.status import describe
from dicom_node.worklog.writer import Worklog

Following = Literal["ask again", "send again", "give up"]

FOLLOWING: dict[int, Following] = {
    PROCESSING_FAILURE: "ask again",
    RESOURCE_LIMITATION: "ask again",
    DUPLICATE_TRANSACTION: "ask again",
    NO_SUCH_INSTANCE: "send again",
    CLASS_INSTANCE_CONFLICT: "give up",
    CLASS_NOT_SUPPORTED: "give up",
}
"""What is done about a failure reason (PS3.3 C.14.1.1); about one that is not here, "send again"."""


class CommitmentProver:
    """Asks one destination to commit to what it took."""

    def __init__(
        self,
        destination: str,
        address: Address,
        *,
        states: ObjectStates,
        requests: CommitmentRequests,
        worklog: Worklog,
        ae_title: str,
        backoff: Backoff,
        timeouts: Timeouts,
        clock: Callable[[], float],
    ) -> None:
        self._destination, self._address = destination, address
        self._states, self._requests, self._worklog = states, requests, worklog
        self._ae_title, self._backoff, self._timeouts, self._clock = ae_title, backoff, timeouts, clock
        self._heard = threading.Event()

    def hear(self) -> None:
        """End the wait for a report: one came on another association, or the node stops."""
        self._heard.set()

    def prove(self, job_id: str, rows: list[ObjectRow]) -> None:
        """Ask for commitment to objects of one job that were sent, and record what follows.

        Raises
        ------
        UnreachableError
            The destination can't be reached; nothing is recorded.
        """
        requests = {row.sop_instance_uid: self._requests.times_asked(row) for row in rows}
        silent = [row for row in rows if requests[row.sop_instance_uid] >= self._backoff.requests]
        if silent:
            self._give_up_proof(
                job_id, silent, f"it gave no answer to {self._backoff.requests} requests for commitment"
            )
        rows = [row for row in rows if requests[row.sop_instance_uid] < self._backoff.requests]
        if not rows:
            return
        request = Request(
            str(generate_uid()), tuple(Reference(row.sop_class_uid, row.sop_instance_uid) for row in rows)
        )
        self._requests.enter(request.transaction_uid, self._destination, job_id, requests)
        reason = ""
        try:
            ask(
                self._address,
                self._ae_title,
                request,
                self._take,
                heard=self._heard,
                timeouts=self._timeouts,
            )
        except UnreachableError:  # it was not asked: this must not count as a request without an answer
            self._requests.withdraw(request.transaction_uid)
            raise
        except CommitmentRefusedError as error:
            self._give_up_proof(job_id, rows, str(error))
            return
        except CommitmentBrokenError as error:
            reason = str(error)
        now = self._clock()
        self._states.record(
            [
                Change(
                    row,
                    ObjectState.SENT,
                    reason or row.reason,
                    now + self._backoff.answer_s(requests[row.sop_instance_uid] + 1),
                )
                for row in rows
            ]
        )

    def settle(self) -> list[str]:
        """Record what follows from the answers that came, and return the jobs that they are about."""
        jobs = []
        for answer in self._requests.answered(self._destination):
            self._follow(answer)
            self._requests.settle(answer.transaction_uid)
            jobs.append(answer.job_id)
        return jobs

    def _take(self, report: Report) -> None:
        self._requests.answer(
            report.transaction_uid,
            [one.sop_instance_uid for one in report.committed],
            {one.sop_instance_uid: reason for one, reason in report.failed.items()},
        )

    def _follow(self, answer: CommitmentRow) -> None:
        waiting = {
            row.sop_instance_uid: row
            for row in self._states.rows(answer.job_id)
            if row.destination == self._destination
            and row.state == ObjectState.SENT
            and row.sop_instance_uid in answer.objects
            and row.sent_at <= answer.asked_at  # not of an earlier copy
        }
        confirmed = [waiting[uid] for uid in answer.committed if uid in waiting]
        changes = [Change(row, ObjectState.CONFIRMED) for row in confirmed]
        refused = [
            self._change(waiting[uid], reason) for uid, reason in answer.failed.items() if uid in waiting
        ]
        self._states.record(changes + refused)
        if confirmed:
            self._worklog.write(
                "confirmed", answer.job_id, destination=self._destination, objects=len(confirmed)
            )
        missing = [change for change in refused if change.state is not ObjectState.SENT]
        if missing:
            self._worklog.write(
                "missing",
                answer.job_id,
                destination=self._destination,
                objects=len(missing),
                reason=missing[0].reason,
            )

    def _change(self, row: ObjectRow, code: int) -> Change:
        now = self._clock()
        reason = f"no commitment: {describe(code)}"
        following = FOLLOWING.get(code, "send again")
        if following == "ask again":
            next_at = now + self._backoff.answer_s(max(1, self._requests.times_asked(row)))
            return Change(row, ObjectState.SENT, reason, next_at)
        times = self._states.times_sent(row)
        if following == "send again" and times < self._backoff.sends:
            return Change(row, ObjectState.PENDING, reason, now + self._backoff.wait_s(times), 0)
        return Change(row, ObjectState.FAILED, reason)

    def _give_up_proof(self, job_id: str, rows: list[ObjectRow], why: str) -> None:
        reason = f"{why}: no proof; allow storage commitment for {self._ae_title} there"
        self._states.record([Change(row, ObjectState.SENT, reason) for row in rows])
        self._worklog.write(
            "unproven", job_id, destination=self._destination, objects=len(rows), reason=reason
        )
