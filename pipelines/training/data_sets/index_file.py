"""The index of a data set: a CSV file with a header and one line for each case, checked with errors that name the line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipelines.errors import DataSetError

INDEX = "index.csv"


def read_rows(path: Path, needed: Sequence[str], *, what: str, missing: str) -> list[dict[str, str]]:
    """Read a CSV file in UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path : Path
    needed : sequence of str
        Columns that must be there.
    what : str
        What a line stands for, in the plural ("cases").
    missing : str
        What the error says behind "no FILE; " where the file is not there.

    Returns
    -------
    list of dict
        At least one; the first stands in line 2.

    Raises
    ------
    DataSetError
        There is no file, it cannot be read, it has no line, or a column is not there.
    """
    if not path.is_file():
        raise DataSetError(f"no {path}; {missing}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataSetError(f"{path} cannot be read ({error}); save it as CSV in UTF-8") from error
    if not rows:
        raise DataSetError(f"{path} has no {what}")
    absent = [name for name in needed if name not in rows[0]]
    if absent:
        raise DataSetError(f"{path} has no column {', '.join(absent)}; it needs {', '.join(needed)}")
    return rows


def case_rows(folder: Path, needed: Sequence[str], columns: Sequence[str]) -> list[dict[str, str]]:
    """Read ``index.csv`` of a data set with these columns; see `read_rows`."""
    told = f"a data set is a folder with an {INDEX} of the columns {', '.join(columns)}"
    return read_rows(folder / INDEX, needed, what="cases", missing=told)


def check_once(path: Path, cases: Iterable[str]) -> None:
    """Refuse an index in which a case stands twice.

    Raises
    ------
    DataSetError
        One does.
    """
    seen: set[str] = set()
    for case in cases:
        if case in seen:
            raise DataSetError(f"{path}: case {case} stands twice")
        seen.add(case)
