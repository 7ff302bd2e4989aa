"""States of objects at destinations: rows of the database, and receipts on the disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from dicom_node.config.sections import Destination
from dicom_node.errors import SpoolError
from dicom_node.jobs.schema import JobRow, ObjectRow, SeriesRow, TransitionRow
from dicom_node.jobs.states import ObjectState
from dicom_node.jobs.store import Store
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.spool.receipts import Receipt, append_receipts, read_receipts
from dicom_node.spool.spool import Spool

ORDER = (
    "seg",
    "sr",
    "sr-enhanced",
    "text-sr",
    "outline",
    "heatmap",
    "change-seg",
    "change-sr",
    "change-sr-enhanced",
    "change-text",
    "change-picture",
    "summary",
    "summary-text",
    "summary-sr",
    "summary-sr-enhanced",
    "summary-pdf",
)  # a report refers to the SEG, which should be there first
SUBSTITUTES = {
    "sr": "sr-enhanced",
    "change-sr": "change-sr-enhanced",
    "summary-sr": "summary-sr-enhanced",
}
SETTLED = (ObjectState.CONFIRMED, ObjectState.REFUSED, ObjectState.FAILED)
NOTHING_OUTSTANDING = 0.0
"""``next_at`` of an object that was sent and whose proof is not wanted or can't be had."""


@dataclass(frozen=True)
class Change:
    """Change of one object's state that is to be written."""

    row: ObjectRow
    state: ObjectState
    reason: str = ""
    next_at: float = NOTHING_OUTSTANDING
    attempts: int | None = None


class ObjectStates:
    """The objects table as the outbox uses it; every method may be called from any thread."""

    def __init__(self, store: Store, spool: Spool, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._spool = spool
        self._clock = clock

    def enter(self, job_id: str, run: int, objects: Iterable[ResultObject], destination: Destination) -> None:
        """Make rows of a job's objects at one destination, as its receipts say; those that are there stay."""
        folder = self._spool.results / job_id
        receipts = read_receipts(folder, destination.name)
        now = self._clock()
        with self._store.session() as session:
            session.execute(
                delete(ObjectRow).where(
                    ObjectRow.job_id == job_id,
                    ObjectRow.destination == destination.name,
                    ObjectRow.run != run,
                    ObjectRow.state.in_((ObjectState.PENDING, ObjectState.SENT)),
                )
            )
            for item in objects:
                known = session.get(ObjectRow, (item.sop_instance_uid, destination.name))
                if known is not None:
                    known.run = run
                    continue
                receipt = receipts.get(item.sop_instance_uid)
                state = ObjectState(receipt.state) if receipt else ObjectState.PENDING
                prove = state is ObjectState.SENT and destination.confirm != "none"
                row = ObjectRow(
                    sop_instance_uid=item.sop_instance_uid,
                    destination=destination.name,
                    job_id=job_id,
                    run=run,
                    role=item.role,
                    sop_class_uid=item.sop_class_uid,
                    path=self._spool.relative(folder / item.path),
                    state=state,
                    reason=receipt.reason if receipt else "",
                    attempts=0,
                    next_at=now if state is ObjectState.PENDING or prove else NOTHING_OUTSTANDING,
                    sent_at=receipt.at if receipt and state is ObjectState.SENT else 0.0,
                    confirmed_at=receipt.at if receipt and state is ObjectState.CONFIRMED else 0.0,
                )
                session.add(row)
                _note(session, row, "", at=now)

    def substitute(self, refused: ObjectRow, destination: Destination) -> bool:
        """Enter what takes the place of a refused object; return False when nothing does."""
        role = SUBSTITUTES.get(refused.role)
        manifest = Manifest.read(self._spool.results / refused.job_id)
        objects = [item for item in manifest.objects if item.role == role]
        if objects:
            self.enter(refused.job_id, refused.run, objects, destination)
        return bool(objects)

    def due(self, destination: str, job_id: str, *states: ObjectState) -> list[ObjectRow]:
        """Objects of a job whose time has come, in the order in which they are to be sent."""
        query = select(ObjectRow).where(
            ObjectRow.destination == destination,
            ObjectRow.job_id == job_id,
            ObjectRow.state.in_(states),
            _outstanding(),
            ObjectRow.next_at <= self._clock(),
        )
        with self._store.reading() as session:
            rows = list(session.scalars(query.join(JobRow, _current_run())))
        return sorted(rows, key=lambda row: (ORDER.index(row.role), row.path))

    def due_jobs(self, destination: str) -> list[str]:
        """IDs of the jobs that have something due at a destination, oldest first."""
        query = (
            select(JobRow.id)
            .join(ObjectRow, _current_run())
            .where(ObjectRow.destination == destination, _outstanding(), ObjectRow.next_at <= self._clock())
            .group_by(JobRow.id)
            .order_by(func.min(JobRow.created_at), JobRow.id)
        )
        with self._store.reading() as session:
            return list(session.scalars(query))

    def next_at(self, destination: str) -> float | None:
        """Time of the next thing to do at a destination, or None."""
        query = select(func.min(ObjectRow.next_at)).join(JobRow, _current_run())
        with self._store.reading() as session:
            return session.scalar(query.where(ObjectRow.destination == destination, _outstanding()))

    def hurry(self, destination: str) -> None:
        """Make everything due that waits at a destination, and nothing sent in the future.

        Of a clock that was set back: until it came to that time again, no object would count as missing for long,
        and no answer on commitment as one to a request that followed it.
        """
        now = self._clock()
        with self._store.session() as session:
            session.execute(
                update(ObjectRow)
                .where(ObjectRow.destination == destination, ObjectRow.sent_at > now)
                .values(sent_at=now)
            )
            session.execute(
                update(ObjectRow)
                .where(ObjectRow.destination == destination, _outstanding(), ObjectRow.next_at > now)
                .values(next_at=now)
            )

    def postpone(self, destination: str, job_id: str, until: float) -> None:
        """Leave a job's outstanding objects at one destination alone until then."""
        with self._store.session() as session:
            session.execute(
                update(ObjectRow)
                .where(ObjectRow.destination == destination, ObjectRow.job_id == job_id, _outstanding())
                .values(next_at=until)
            )

    def say_why(self, destination: str, reason: str) -> None:
        """Note with everything that waits to be sent to a destination why it does."""
        with self._store.session() as session:
            session.execute(
                update(ObjectRow)
                .where(ObjectRow.destination == destination, ObjectRow.state == ObjectState.PENDING)
                .values(reason=reason)
            )

    def rows(self, job_id: str) -> list[ObjectRow]:
        """All objects of a job's current run, at all destinations."""
        query = select(ObjectRow).join(JobRow, _current_run()).where(ObjectRow.job_id == job_id)
        with self._store.reading() as session:
            return list(session.scalars(query))

    def is_current(self, row: ObjectRow) -> bool:
        """Tell whether an object is of its job's current run, and so may still be sent."""
        query = select(JobRow.run).where(JobRow.id == row.job_id)
        with self._store.reading() as session:
            return session.scalar(query) == row.run

    def times_sent(self, row: ObjectRow) -> int:
        """Count how often a destination said that it had stored an object."""
        query = select(func.count()).where(
            TransitionRow.subject == _subject(row), TransitionRow.after == ObjectState.SENT
        )
        with self._store.reading() as session:
            return session.scalar(query) or 0

    def record(self, changes: Sequence[Change]) -> None:
        """Write changes of objects of one job at one destination: their receipts first, then their rows.

        Of a run that was taken back meanwhile, the folder may have been set aside and the rows may be gone.

        Raises
        ------
        SpoolError, StateError
            They can't be written; the rows are as before.
        """
        if not changes:
            return
        now = self._clock()
        first = changes[0].row
        receipts = [
            Receipt(change.row.sop_instance_uid, change.state, now, change.reason)
            for change in changes
            if change.state != change.row.state
        ]
        if receipts:
            with nullcontext() if self.is_current(first) else suppress(SpoolError):
                append_receipts(self._spool.results / first.job_id, first.destination, receipts)
        with self._store.session() as session:
            for change in changes:
                row = session.get(ObjectRow, (change.row.sop_instance_uid, change.row.destination))
                if row is None:
                    continue
                before = row.state
                row.state, row.reason, row.next_at = change.state, change.reason, change.next_at
                if before != change.state:
                    _note(session, row, before, at=now)
                    if change.state is ObjectState.SENT:
                        row.sent_at = now
                    if change.state is ObjectState.CONFIRMED:
                        row.confirmed_at = now
                if change.attempts is not None:
                    row.attempts = change.attempts

    def last_image_at(self, job_id: str) -> float | None:
        """Return when the last image of a job's series came in."""
        query = select(SeriesRow.last_at).join(JobRow, JobRow.series_uid == SeriesRow.series_uid)
        with self._store.reading() as session:
            return session.scalar(query.where(JobRow.id == job_id))


def is_settled(row: ObjectRow) -> bool:
    """Tell whether nothing more will be done for an object unless a person asks for it."""
    return row.state in SETTLED or (row.state == ObjectState.SENT and row.next_at == NOTHING_OUTSTANDING)


def _outstanding() -> ColumnElement[bool]:
    return or_(
        ObjectRow.state == ObjectState.PENDING,
        and_(ObjectRow.state == ObjectState.SENT, ObjectRow.next_at > NOTHING_OUTSTANDING),
    )


def _current_run() -> ColumnElement[bool]:
    return and_(JobRow.id == ObjectRow.job_id, JobRow.run == ObjectRow.run)


def _subject(row: ObjectRow) -> str:
    return f"{row.sop_instance_uid}@{row.destination}"


def _note(session: Session, row: ObjectRow, before: str, *, at: float) -> None:
    session.add(
        TransitionRow(subject=_subject(row), at=at, before=before, after=row.state, reason=row.reason)
    )
