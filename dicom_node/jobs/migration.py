"""The version of the database (``PRAGMA user_version``): an older one is brought up to date, a newer one is refused.

Version 0 is that of 0.1.0, which wrote none. What an older version lacks is added where a default tells what it holds; a
database that can't be brought up to date so is made again from the spool, see :mod:`dicom_node.jobs.rebuild`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, Connection, Table

from dicom_node.errors import StateError
from dicom_node.jobs.schema import Base, LesionRow

VERSION = 2
"""Raise it with each change of the tables; a column that is added needs a default, or the database is made again."""

_NOT_LOOKED_AT = frozenset({LesionRow.__tablename__})
"""Tables that only the node itself reads: a database that lacks them can be looked at."""


class OutdatedStateError(StateError):
    """The database is of an older version, and lacks what can't be added to it: make it again from the spool."""


@dataclass(frozen=True)
class Holds:
    """Series by UID and jobs by ID that were held, each with its reason, in a database that is made again."""

    series: dict[str, str]
    jobs: dict[str, str]

    def __len__(self) -> int:
        return len(self.series) + len(self.jobs)


def prepare(connection: Connection, path: Path, *, may_migrate: bool) -> None:
    """Make the tables of a new database, and bring those of an older one up to date.

    Parameters
    ----------
    path : Path
        Of the database, for what is said of it.
    may_migrate : bool
        Only the node itself changes an older one, so that looking at it spoils nothing for a node that runs.

    Raises
    ------
    StateError
        It is of a newer version, or of an older one and may not be changed.
    OutdatedStateError
        It is of an older version and can't be brought up to date.
    """
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version > VERSION:
        raise StateError(
            f"{path}: written by a newer version of dicom-node (state {version}, this one reads up to {VERSION}): install "
            f"that version, or move {path.name}* away, and it is made again without what people held"
        )
    there = _columns(connection)
    lacking = {
        table: [column for column in table.columns if column.name not in there.get(table.name, {})]
        for table in Base.metadata.sorted_tables
    }
    if there and not may_migrate:
        if any(
            columns for table, columns in lacking.items() if table.name not in _NOT_LOOKED_AT - there.keys()
        ):
            raise StateError(
                f"{path}: of an older version of dicom-node (state {version}, this one is {VERSION}): "
                "start the node, which brings it up to date"
            )
        return
    for table, columns in lacking.items():
        if table.name in there:
            _refuse_left_over(there[table.name], table, path)
            for column in columns:
                _add(connection, column, path)
    Base.metadata.create_all(connection)
    for table in lacking:
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    connection.exec_driver_sql(f"PRAGMA user_version = {VERSION}")


def holds_of(path: Path) -> Holds:
    """Return what is held according to a database of any version; nothing where it does not tell."""
    series: dict[str, str] = {}
    jobs: dict[str, str] = {}
    for found, table, key in ((series, "series", "series_uid"), (jobs, "jobs", "id")):
        with (
            contextlib.suppress(sqlite3.DatabaseError),
            contextlib.closing(sqlite3.connect(path)) as connection,
        ):
            query = f"SELECT {key}, reason FROM {table} WHERE state = 'held'"
            found.update(connection.execute(query))
    return Holds(series, jobs)


def _columns(connection: Connection) -> dict[str, dict[str, bool]]:
    """Return the columns of each table that is there, and whether a row can't do without a value for it."""
    names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    return {
        name: {
            row["name"]: bool(row["notnull"]) and row["dflt_value"] is None and not row["pk"]
            for row in connection.exec_driver_sql(f"PRAGMA table_info({name})").mappings()
        }
        for name in names
    }


def _refuse_left_over(there: Mapping[str, bool], table: Table, path: Path) -> None:
    """Refuse a column that today's rows would leave empty, and may not."""
    left_over = [name for name, is_needed in there.items() if is_needed and name not in table.columns]
    if left_over:
        raise OutdatedStateError(
            f"{path}: of another version of dicom-node: {table.name}.{left_over[0]} is no more"
        )


def _add(connection: Connection, column: Column[Any], path: Path) -> None:
    default = _default(column)
    name = f"{column.table.name}.{column.name}"
    if default is None or column.primary_key or column.foreign_keys:
        raise OutdatedStateError(
            f"{path}: of an older version of dicom-node: nothing tells what {name} holds"
        )
    kind = column.type.compile(connection.dialect)
    constraint = "" if column.nullable else "NOT NULL "
    connection.exec_driver_sql(
        f"ALTER TABLE {column.table.name} ADD COLUMN {column.name} {kind} {constraint}DEFAULT {default}"
    )


def _default(column: Column[Any]) -> str | None:
    """Return what older rows hold in a column, as SQL; None where nothing says so."""
    given: Any = column.default
    if given is None:
        return "NULL" if column.nullable else None
    value = given.arg(None) if given.is_callable else given.arg
    if isinstance(column.type, JSON):
        value = json.dumps(value)
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(int(value) if isinstance(value, bool) else value)
