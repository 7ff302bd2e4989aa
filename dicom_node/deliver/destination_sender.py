"""One destination's thread: sends what is due there, and proves that it arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicom_node.config.sections import Destination
from dicom_node.deliver.address import Address
from dicom_node.deliver.association import Timeouts, UnreachableError
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.c_store import Outcome, SendResult, send_files
from dicom_node.deliver.commitment_prover import CommitmentProver
from dicom_node.deliver.commitment_requests import CommitmentRequests
from dicom_node.deliver.object_states import NOTHING_OUTSTANDING, Change, ObjectStates
from dicom_node.deliver.patient_check import PatientCheck
from dicom_node.deliver.prover import Prover
from dicom_node.deliver.send_summary import SendSummary
from dicom_node.errors import DeliveryError, NodeError, SpoolError
from dicom_node.jobs.schema import ObjectRow
from dicom_node.jobs.states import ObjectState
from dicom_node.jobs.stepper import Stepper
from dicom_node.spool.spool import Spool
from dicom_node.standard.status import PROCESSING_FAILURE
from dicom_node.worklog.writer import Worklog

LONGEST_SLEEP_S = 3600.0
CLOCK_STEP_S = 1.0
"""A clock that goes back by more was set back: times that were noted before lie too far ahead."""


class DestinationSender:
    """Everything that goes to one destination, in one thread, so that a dead destination delays no other.

    Parameters
    ----------
    on_change : callable
        Called with a job's ID after objects of it were settled.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        states: ObjectStates,
        requests: CommitmentRequests,
        spool: Spool,
        worklog: Worklog,
        ae_title: str,
        on_change: Callable[[str], None],
        backoff: Backoff,
        timeouts: Timeouts,
        clock: Callable[[], float],
    ) -> None:
        self.destination = destination
        self.address = Address.of(destination)
        self._states, self._spool, self._worklog = states, spool, worklog
        self._ae_title, self._on_change = ae_title, on_change
        self._backoff, self._timeouts, self._clock = backoff, timeouts, clock
        self._stepper = Stepper(f"deliver-{destination.name}", self._step, self._stumble)
        self._hurry = threading.Event()
        self._hurry.set()  # at the start: the clock may have been set back while the node was off
        self._latest = 0.0  # of the clock
        self._unsaid: set[str] = set()  # jobs whose change could not be passed on
        self._failures = 0  # of the destination as a whole, in a row
        self._blocked_until = 0.0
        common: dict[str, Any] = {
            "states": states,
            "worklog": worklog,
            "ae_title": ae_title,
            "backoff": backoff,
            "timeouts": timeouts,
            "clock": clock,
        }
        self._patient_check = PatientCheck(
            destination.name,
            self.address,
            destination.verify_patient,
            states=states,
            spool=spool,
            worklog=worklog,
            ae_title=ae_title,
            backoff=backoff,
            timeouts=timeouts,
            clock=clock,
        )
        self._prover: Prover | CommitmentProver
        if destination.confirm == "commitment":
            self._prover = CommitmentProver(destination.name, self.address, requests=requests, **common)
        else:
            self._prover = Prover(destination.name, self.address, spool=spool, **common)

    def start(self) -> None:
        """Start the thread."""
        self._stepper.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread after the object that is on its way."""
        self._stepper.stop(0.0)
        self._prover.hear()
        self._stepper.stop(timeout_s)

    def notice(self) -> None:
        """Look for new objects."""
        self._stepper.wake()

    def hear(self) -> None:
        """Look for an answer to a request for commitment."""
        self._prover.hear()
        self.notice()

    def wake(self) -> None:
        """Try everything that waits at once."""
        self._hurry.set()
        self._stepper.wake()

    def _stumble(self, error: Exception) -> float:
        self._worklog.write("warning", name=f"delivery to {self.destination.name}", reason=_said(error))
        return self._backoff.wait_s(4)

    def _step(self) -> float:
        """Do all that is due, and return how long there is nothing to do."""
        name = self.destination.name
        if self._hurry.is_set():
            self._hurry.clear()
            self._blocked_until = 0.0
            self._states.hurry(name)
        now = self._clock()
        if now < self._latest - CLOCK_STEP_S:
            self._blocked_until = 0.0
            self._states.hurry(name)
        self._latest = now
        self._unsaid.update(self._prover.settle())
        if self._clock() >= self._blocked_until:
            for job_id in dict.fromkeys([*self._states.due_jobs(name), *self._unsaid]):
                if self._stepper.stopping:
                    break
                self._deliver(job_id)
                if self._clock() < self._blocked_until:
                    break
        next_at = self._states.next_at(name)
        if self._unsaid:
            return self._backoff.wait_s(1)
        if next_at is None:
            return LONGEST_SLEEP_S
        now = self._clock()
        if now < self._latest - CLOCK_STEP_S:  # set back in this step: the wait would be longer by as much
            return 0.0
        return min(LONGEST_SLEEP_S, max(0.0, max(next_at, self._blocked_until) - now))

    def _deliver(self, job_id: str) -> None:
        try:
            if self._send(job_id) and not self._stepper.stopping:
                self._prove(job_id)
            self._unsaid.add(job_id)
            self._on_change(job_id)
            self._unsaid.discard(job_id)
        except Exception as error:  # noqa: BLE001 - a job whose files were meddled with holds up no other
            wait_s = self._backoff.cap_s
            self._states.postpone(self.destination.name, job_id, self._clock() + wait_s)
            self._worklog.write(
                "delivery-retry",
                job_id,
                destination=self.destination.name,
                reason=_said(error),
                wait_s=wait_s,
            )

    # Sending

    def _send(self, job_id: str) -> bool:
        """Send what is due of a job; False when the destination can't be reached."""
        waiting = self._states.due(self.destination.name, job_id, ObjectState.PENDING)
        try:
            if waiting and not self._patient_check.may_send(job_id, waiting):
                return True
        except DeliveryError as error:
            self._block(job_id, str(error), len(waiting))
            return False
        broke_twice = False
        while rows := self._states.due(self.destination.name, job_id, ObjectState.PENDING):
            if self._stepper.stopping:
                return False
            done = self._send_once(job_id, rows)
            if done is None:
                return False
            if done < len(rows):
                if broke_twice or not done:
                    self._block(job_id, f"{self.address}: keeps breaking the association", len(rows) - done)
                    return False
                broke_twice = True
        return True

    def _send_once(self, job_id: str, rows: list[ObjectRow]) -> int | None:
        """Send rows in one association and return how many had their turn; None if there was none."""
        by_path: dict[Path, ObjectRow] = {}
        summary = SendSummary()
        done = 0
        for row in rows:
            try:
                by_path[self._spool.absolute(row.path)] = row
            except SpoolError:
                done += 1
                reason = "its path leads out of the data folder"
                summary.failed[row.role, reason] += 1
                self._states.record([Change(row, ObjectState.FAILED, reason)])

        def record(result: SendResult) -> None:
            nonlocal done
            if result.outcome is Outcome.RETRY and not result.attempted:
                return
            done += 1
            self._record(by_path[result.path], result, summary)

        started = time.monotonic()
        try:
            send_files(
                self.address,
                by_path,
                self._ae_title,
                record,
                timeouts=self._timeouts,
                go_on=lambda: not self._stepper.stopping and self._states.is_current(rows[0]),
            )
        except DeliveryError as error:
            self._block(job_id, str(error), len(rows))
            return None
        finally:
            summary.write(self._worklog, job_id, self.destination.name, time.monotonic() - started)
        if not self._stepper.stopping:
            self._failures = 0
        left_on_purpose = self._stepper.stopping or not self._states.is_current(rows[0])
        return len(rows) if left_on_purpose else done

    def _record(self, row: ObjectRow, result: SendResult, summary: SendSummary) -> None:
        """Write down what became of one object, at once: it must not be sent again after a crash."""
        attempts = row.attempts + 1
        outcome = result.outcome
        if not outcome.stored and not self._states.is_current(row):
            return  # taken back while it was on its way: nothing is to be tried again
        uncertain = result.status == PROCESSING_FAILURE
        if outcome is Outcome.RETRY and uncertain and attempts >= self._backoff.uncertain_tries:
            outcome = Outcome.FAILED
        if outcome.stored:
            now = self._clock()
            next_at = now if self.destination.confirm != "none" else NOTHING_OUTSTANDING
            change = Change(row, ObjectState.SENT, result.reason, next_at, attempts)
            summary.stored += 1
            if outcome is Outcome.WARNING:
                summary.warnings[row.role, result.reason] += 1
        elif outcome is Outcome.RETRY:
            wait_s = self._backoff.wait_s(attempts)
            change = Change(row, ObjectState.PENDING, result.reason, self._clock() + wait_s, attempts)
            summary.waiting[result.reason] += 1
            summary.wait_s = wait_s
        elif outcome is Outcome.CLASS_REFUSED:
            change = Change(row, ObjectState.REFUSED, result.reason, attempts=attempts)
            summary.refused[row.role, result.reason] += 1
            # First, so that the job is not settled between the two.
            self._states.substitute(row, self.destination)
        else:
            change = Change(row, ObjectState.FAILED, result.reason, attempts=attempts)
            summary.failed[row.role, result.reason] += 1
        self._states.record([change])

    def _prove(self, job_id: str) -> None:
        rows = self._states.due(self.destination.name, job_id, ObjectState.SENT)
        if not rows:
            return
        try:
            self._prover.prove(job_id, rows)
            self._unsaid.update(self._prover.settle())
        except UnreachableError as error:
            self._block(job_id, str(error), len(rows))

    def _block(self, job_id: str, reason: str, objects: int) -> None:
        """Leave the destination alone for a while."""
        self._failures += 1
        wait_s = self._backoff.wait_s(self._failures)
        self._latest = max(self._latest, self._clock())
        self._blocked_until = self._latest + wait_s
        self._states.say_why(self.destination.name, reason)
        self._worklog.write(
            "delivery-retry",
            job_id,
            destination=self.destination.name,
            reason=reason,
            objects=objects,
            wait_s=wait_s,
        )


def _said(error: Exception) -> str:
    """An error for the worklog: our own texts name no patient, others might."""
    return str(error) if isinstance(error, NodeError) else type(error).__name__
