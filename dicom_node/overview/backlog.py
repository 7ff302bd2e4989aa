"""Backlog of each destination: what waits for it, since when and why, and when it last took something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, select

from dicom_node.config.sections import Destination
from dicom_node.jobs.schema import JobRow, ObjectRow
from dicom_node.jobs.since import job_since
from dicom_node.jobs.states import ObjectState
from dicom_node.jobs.store import Store
from dicom_node.overview.overview import DestinationState


def destination_states(store: Store, destinations: Sequence[Destination]) -> tuple[DestinationState, ...]:
    """Return what each configured destination has before it, in their order."""
    states = {
        one.name: DestinationState(one.name, f"{one.ae_title}@{one.host}:{one.port}") for one in destinations
    }
    waiting = (
        select(
            ObjectRow.destination,
            ObjectRow.job_id,
            func.count().label("objects"),
            func.min(ObjectRow.next_at).label("next_at"),
            func.max(ObjectRow.reason).label("reason"),
        )
        .where(ObjectRow.destination.in_(states), ObjectRow.state == ObjectState.PENDING)
        .join(JobRow, (JobRow.id == ObjectRow.job_id) & (JobRow.run == ObjectRow.run))
        .group_by(ObjectRow.destination, ObjectRow.job_id)
        .cte("waiting")
    )
    backlog = (
        select(
            waiting.c.destination,
            func.sum(waiting.c.objects),
            func.count(),
            func.min(job_since()),
            func.min(waiting.c.next_at),
            func.max(waiting.c.reason),
        )
        .join(JobRow, JobRow.id == waiting.c.job_id)
        .group_by(waiting.c.destination)
    )
    unproven = (
        select(ObjectRow.destination, func.count())
        .where(
            ObjectRow.destination.in_(states), ObjectRow.state == ObjectState.SENT, ObjectRow.next_at > 0.0
        )
        .group_by(ObjectRow.destination)
    )
    with store.reading() as session:
        for name, objects, jobs, oldest_at, next_at, reason in session.execute(backlog):
            states[name] = replace(
                states[name],
                objects=objects,
                jobs=jobs,
                oldest_at=oldest_at,
                next_at=next_at or None,
                reason=reason,
            )
        for name, count in session.execute(unproven):
            states[name] = replace(states[name], unproven=count)
        for name, state in states.items():
            # One maximum each: both are the ends of an index.
            of_it = ObjectRow.destination == name
            sent_at = session.scalar(select(func.max(ObjectRow.sent_at)).where(of_it))
            confirmed_at = session.scalar(select(func.max(ObjectRow.confirmed_at)).where(of_it))
            last_at = max(sent_at or 0.0, confirmed_at or 0.0)
            states[name] = replace(state, last_success_at=last_at or None)
    return tuple(states.values())
