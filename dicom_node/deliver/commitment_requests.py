"""The requests for storage commitment that are under way, in the database: an answer may come after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from sqlalchemy import delete, select, update

from dicom_node.jobs.schema import CommitmentRow, ObjectRow
from dicom_node.jobs.store import Store


class CommitmentRequests:
    """The commitments table; every method may be called from any thread."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def enter(self, transaction_uid: str, destination: str, job_id: str, objects: Iterable[str]) -> None:
        """Write down a request before it is sent."""
        row = CommitmentRow(
            transaction_uid=transaction_uid,
            destination=destination,
            job_id=job_id,
            objects=list(objects),
            asked_at=self._clock(),
        )
        with self._store.session() as session:
            session.add(row)

    def withdraw(self, transaction_uid: str) -> None:
        """Forget a request that was never sent."""
        with self._store.session() as session:
            session.execute(delete(CommitmentRow).where(CommitmentRow.transaction_uid == transaction_uid))

    def times_asked(self, row: ObjectRow) -> int:
        """Count how often commitment to an object was asked for since it was sent the last time."""
        query = select(CommitmentRow.objects).where(
            CommitmentRow.job_id == row.job_id,
            CommitmentRow.destination == row.destination,
            CommitmentRow.asked_at >= row.sent_at,
        )
        with self._store.reading() as session:
            return sum(row.sop_instance_uid in objects for objects in session.scalars(query))

    def answer(self, transaction_uid: str, committed: Iterable[str], failed: Mapping[str, int]) -> str | None:
        """Write down an answer, and return which destination it is from; None when nobody was asked so."""
        with self._store.session() as session:
            row = session.get(CommitmentRow, transaction_uid)
            if row is None:
                return None
            if not row.answered_at:
                row.committed, row.failed = list(committed), dict(failed)
                row.answered_at = self._clock()
            return row.destination

    def answered(self, destination: str) -> list[CommitmentRow]:
        """Return the answers of a destination from which nothing has followed yet, oldest first."""
        query = (
            select(CommitmentRow)
            .where(
                CommitmentRow.destination == destination,
                CommitmentRow.answered_at > 0.0,
                CommitmentRow.settled.is_(False),
            )
            .order_by(CommitmentRow.answered_at)
        )
        with self._store.reading() as session:
            return list(session.scalars(query))

    def settle(self, transaction_uid: str) -> None:
        """Note that all that follows from an answer is done."""
        with self._store.session() as session:
            session.execute(
                update(CommitmentRow)
                .where(CommitmentRow.transaction_uid == transaction_uid)
                .values(settled=True)
            )
