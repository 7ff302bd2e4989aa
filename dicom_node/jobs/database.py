"""SQLite as the node uses it: write-ahead log, one writer at a time, foreign errors turned into ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from dicom_node.errors import StateError

BUSY_TIMEOUT_S = 30.0

MADE_AGAIN = "the node makes it again from the data folder when it starts"
WAYS_OUT = {
    "locked": "another program holds it: end that, or wait",
    "unable to open": "it must be a file that this user may write",
    "readonly": "it must be a file that this user may write",
    "full": "the disk has no room",
}
"""What a person can do about some of SQLite's texts."""


class CorruptStateError(StateError):
    """The database file is damaged, or is no database: make it again from the spool."""


def open_engine(path: Path) -> Engine:
    """Return an engine for the SQLite file, whose transactions write unless told that they only read."""
    # Parameters stay out of error texts, and so out of logs: they may name a patient.
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    # A writer takes the lock at BEGIN: one that asks for it halfway can't wait and fails at once as busy.
    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))

    return engine


@contextlib.contextmanager
def open_session(engine: Engine, path: Path) -> Iterator[Session]:
    """Open a session and commit it at the end; rows stay readable after it.

    Raises
    ------
    CorruptStateError
        The file is damaged.
    StateError
        Any other trouble of SQLite: rights, space, a lock that is not given up.
    """
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            yield session
    except DatabaseError as error:
        text = str(error.orig)
        if "malformed" in text or "not a database" in text:
            raise CorruptStateError(f"{path}: {text}; {MADE_AGAIN}") from error
        ways_out = [way_out for part, way_out in WAYS_OUT.items() if part in text]
        raise StateError("; ".join([f"{path}: {text}", *ways_out])) from error
