"""Brings the objects of finished jobs to every destination, across restarts, nothing proven twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from dicom_node.config.sections import Destination
from dicom_node.deliver.address import Address
from dicom_node.deliver.association import DEFAULT_TIMEOUTS, Timeouts
from dicom_node.deliver.backoff import Backoff
from dicom_node.deliver.commitment_requests import CommitmentRequests
from dicom_node.deliver.destination_sender import DestinationSender
from dicom_node.deliver.object_states import SUBSTITUTES, Change, ObjectStates, is_settled
from dicom_node.errors import ResultError, StateError
from dicom_node.jobs.schema import JobRow, ObjectRow
from dicom_node.jobs.states import ObjectState
from dicom_node.jobs.store import Store
from dicom_node.results.manifest import Manifest
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog

STOP_TIMEOUT_S = 10.0
DEFAULT_BACKOFF = Backoff()


class Outbox:
    """The node's deliveries: one :class:`~dicom_node.deliver.destination_sender.DestinationSender` for each destination.

    Parameters
    ----------
    store : Store
        The node's database.
    spool : Spool
        The data folder; only files in it are sent.
    destinations : sequence of Destination
        The ``[[destination]]`` tables.
    ae_title : str
        Our own AE title.
    worklog : Worklog
        Where each step is written.
    on_settled : callable
        Called with a job's ID, and whether nothing of it failed, once nothing more will be done for it; on
        the thread that settled it.
    backoff : Backoff, optional
        Waits between tries.
    timeouts : Timeouts, optional
        Of connections, associations and answers.

    Raises
    ------
    ConfigError
        A file that a destination's ``tls`` names can't be used.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool,
        destinations: Sequence[Destination],
        *,
        ae_title: str,
        worklog: Worklog,
        on_settled: Callable[[str, bool], None],
        backoff: Backoff = DEFAULT_BACKOFF,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._spool = store, spool
        self._states = ObjectStates(store, spool, clock)
        self._requests = CommitmentRequests(store, clock)
        self._worklog = worklog
        self._on_settled = on_settled
        self._clock = clock
        self._lock = threading.Lock()
        self._told: set[tuple[str, int, str]] = (
            set()
        )  # (job, run, destination), destination "" for the whole job
        for destination in destinations:
            Address.of(destination).check_tls()
        self._senders = {
            destination.name: DestinationSender(
                destination,
                states=self._states,
                requests=self._requests,
                spool=spool,
                worklog=worklog,
                ae_title=ae_title,
                on_change=self._look,
                backoff=backoff,
                timeouts=timeouts,
                clock=clock,
            )
            for destination in destinations
        }

    def start(self) -> None:
        """Start sending what is due."""
        for sender in self._senders.values():
            sender.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop after the objects that are on their way; what is left is sent after the next start."""
        for sender in self._senders.values():
            sender.stop(0.0)
        deadline = time.monotonic() + timeout_s
        for sender in self._senders.values():
            sender.stop(max(0.0, deadline - time.monotonic()))

    def add(self, job: JobRow, manifest: Manifest) -> None:
        """Take a finished job: one row for each object that a destination wants.

        May be called again for the same run, as after a restart: what receipts or rows say stays. Without
        anything to send the job is settled at once.

        Raises
        ------
        StateError, SpoolError
            The database, or a receipt, can't be used.
        """
        expected = 0
        for sender in self._senders.values():
            wanted = sender.destination.roles
            objects = [item for item in manifest.objects if item.role in wanted]
            expected += len(objects)
            # The job's run, which is a later one when a run that was given up published after all.
            self._states.enter(job.id, job.run, objects, sender.destination)
        rows = self._states.rows(job.id)
        if expected and not rows:
            raise StateError(f"job {job.id[:8]} has moved on from run {job.run}: nothing of it is sent")
        for row in rows:
            if (
                row.state == ObjectState.REFUSED
                and row.role in SUBSTITUTES
                and row.destination in self._senders
            ):
                self._states.substitute(row, self._senders[row.destination].destination)
        with self._lock:
            for name, at_destination in _by_destination(rows).items():
                if all(map(is_settled, at_destination)):
                    self._told.add((job.id, job.run, name))  # its line was written before the restart
        self._look(job.id, run=job.run)
        for sender in self._senders.values():
            sender.notice()

    def again(self, job_id: str) -> None:
        """Send again what was refused or failed; what a destination holds is not touched."""
        rows = self._states.rows(job_id)
        now = self._clock()
        with self._lock:
            self._told = {told for told in self._told if told[0] != job_id}
        for at_destination in _by_destination(rows).values():
            redo = [row for row in at_destination if row.state in (ObjectState.FAILED, ObjectState.REFUSED)]
            self._states.record(
                [Change(row, ObjectState.PENDING, "asked for by a person", now, 0) for row in redo]
            )
        job = self._store.job(job_id)
        try:
            if job is not None:  # there may be other destinations than at first
                self.add(job, Manifest.read(self._spool.results / job_id))
        except ResultError:
            self._look(job_id)
        self.wake()

    def wake(self) -> None:
        """Try everything that waits at once, as when a destination is known to be back."""
        for sender in self._senders.values():
            sender.wake()

    def commitment_reported(
        self, transaction_uid: str, committed: Sequence[str], failed: Mapping[str, int]
    ) -> bool:
        """Take a destination's answer to a request for storage commitment, which came on its own association.

        Parameters
        ----------
        transaction_uid : str
            The request's.
        committed : sequence of str
            SOP Instance UIDs that it commits to.
        failed : mapping of str to int
            Failure reason (PS3.3 C.14.1.1) of each of the others.

        Returns
        -------
        bool
            False when there was no such request.
        """
        destination = self._requests.answer(transaction_uid, committed, failed)
        if destination in self._senders:
            self._senders[destination].hear()
        return destination is not None

    def _look(self, job_id: str, run: int | None = None) -> None:
        """Say once that a job is settled at a destination, and once that it is settled at all of them.

        A destination that is no longer configured holds nothing up.
        """
        rows = [row for row in self._states.rows(job_id) if row.destination in self._senders]
        if rows:
            run = rows[0].run
        if run is None:
            return
        for name, at_destination in _by_destination(rows).items():
            if all(map(is_settled, at_destination)) and self._first_time(job_id, run, name):
                self._tell(job_id, name, at_destination)
        if all(map(is_settled, rows)) and self._first_time(job_id, run, ""):
            try:
                self._on_settled(job_id, not any(row.state == ObjectState.FAILED for row in rows))
            except BaseException:
                with self._lock:
                    self._told.discard((job_id, run, ""))
                raise

    def _first_time(self, job_id: str, run: int, destination: str) -> bool:
        with self._lock:
            key = (job_id, run, destination)
            if key in self._told:
                return False
            self._told.add(key)
            return True

    def _tell(self, job_id: str, destination: str, rows: list[ObjectRow]) -> None:
        failed = [row for row in rows if row.state == ObjectState.FAILED]
        refused = sorted({row.role for row in rows if row.state == ObjectState.REFUSED})
        if failed:
            self._worklog.write(
                "undelivered", job_id, destination=destination, objects=len(failed), reason=failed[0].reason
            )
            return
        last_at = self._states.last_image_at(job_id)
        self._worklog.write(
            "delivered",
            job_id,
            destination=destination,
            objects=sum(row.state in (ObjectState.SENT, ObjectState.CONFIRMED) for row in rows),
            seconds=max(0.0, self._clock() - last_at) if last_at is not None else None,
            reason=f"without {', '.join(refused)}, which it does not take" if refused else None,
        )


def _by_destination(rows: Sequence[ObjectRow]) -> dict[str, list[ObjectRow]]:
    grouped: dict[str, list[ObjectRow]] = {}
    for row in rows:
        grouped.setdefault(row.destination, []).append(row)
    return grouped
