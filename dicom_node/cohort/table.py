"""File of a cohort: one row for each patient, with age, sex, lesion volume and count, and by what these were measured.

CSV in UTF-8; lines that begin with ``#`` say where it comes from. No row holds anything by which a patient could be found.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from dicom_node.config.sections import OPEN_MS
from dicom_node.errors import CohortError

Sex = Literal["F", "M"]

BY_HAND: Final = "outlined by hand"
"""Stands in place of the digest of a pipeline where people outlined the lesions."""
OLDEST: Final = 90
"""Ages from here on are written as this one: few are so old that their age would name nobody."""
_OPEN_MS_FILE: Final = Path(__file__).with_name("open_ms.csv")
_DIGEST = re.compile(r"[0-9a-f]{16}")
_WORDS = re.compile(r"[^\W_][\w .,'()/&+-]{0,63}")


@dataclass(frozen=True)
class Row:
    """One patient of a cohort.

    Parameters
    ----------
    age : int
        In whole years, on the day of the study.
    sex : "F" or "M"
    volume_ml : float
        Of all lesions together.
    lesions : int
        Number of lesions.
    pipeline : str
        Digest of the pipeline that measured them (`pipeline_digest`), or `BY_HAND`.
    group : str
        Whom it is of ("MS", "healthy").
    source : str
        Where it comes from, as reports name it.
    """

    age: int
    sex: Sex
    volume_ml: float
    lesions: int
    pipeline: str
    group: str
    source: str


COLUMNS: Final = tuple(field.name for field in fields(Row))


@dataclass(frozen=True)
class Cohort:
    """Rows of one file; all are of one group, the only one that it may be named by."""

    rows: tuple[Row, ...]

    @property
    def group(self) -> str:
        """Whom it is of."""
        return self.rows[0].group

    def summary(self, digest: str) -> str:
        """Return in one line how many patients there are of what, and how many a pipeline can be compared with."""
        sources = ", ".join(sorted({row.source for row in self.rows}))
        measured = Counter(row.pipeline for row in self.rows)
        return (
            f"{len(self.rows)} rows of {self.group} ({sources}): {measured[digest]} measured by this pipeline and its "
            f"settings, {measured[BY_HAND]} {BY_HAND}"
        )


def pipeline_digest(name: str, weights_digest: str, settings: Mapping[str, Any]) -> str:
    """Return the digest, 16 hex digits, of a pipeline with its weights and settings; volumes of one digest are compared."""
    text = json.dumps([name, weights_digest, settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_cohort(file: str) -> Cohort | None:
    """Read the file of a cohort, or the example under its name `OPEN_MS`; None where none is named.

    Raises
    ------
    CohortError
        It can't be read, or a row is not as it must be; the line names the row and what is allowed.
    """
    if not file:
        return None
    path = _OPEN_MS_FILE if file == OPEN_MS else Path(file)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise CohortError(
            f'[cohort] {path}: can\'t be read: {error.strerror}; name another file, or "" for none'
        ) from error
    except UnicodeDecodeError as error:
        raise CohortError(f"[cohort] {path}: not text in UTF-8: save it so") from error
    numbered = [(n, text) for n, text in enumerate(lines, 1) if text.strip() and not text.startswith("#")]
    try:
        table = list(csv.reader(text for _, text in numbered))
    except csv.Error as error:
        raise CohortError(f"[cohort] {path}: not CSV: {error}") from error
    heading = tuple(cell.strip() for cell in table[0]) if table else ()
    if heading != COLUMNS:
        raise CohortError(f"[cohort] {path}: the columns must be {','.join(COLUMNS)}")
    rows = [
        _row(cells, f"[cohort] {path}, line {n}")
        for (n, _), cells in zip(numbered[1:], table[1:], strict=False)
    ]
    groups = sorted({row.group for row in rows})
    if len(groups) != 1:
        found = " and ".join(groups) or "no row"
        raise CohortError(f"[cohort] {path}: one group in one file, not {found}: make a file of each")
    return Cohort(tuple(rows))


def write_cohort(rows: Iterable[Row], path: Path) -> None:
    """Write a new file of a cohort, its rows in an order that tells nothing of when or as whom a patient came.

    Raises
    ------
    CohortError
        There is a file of that name already, a name of group or source can't stand in a report, or it can't be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(rows, key=astuple):
        checked_words(row.group, "group")
        checked_words(row.source, "source")
        writer.writerow(astuple(row))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text.getvalue())
    except FileExistsError as error:
        raise CohortError(f"{path} is there already: give another name") from error
    except OSError as error:
        raise CohortError(f"{path}: can't be written: {error.strerror}") from error


def checked_words(text: str, what: str) -> str:
    """Return a name of a group or source as it may stand in reports.

    Raises
    ------
    CohortError
        It is none.
    """
    if not _WORDS.fullmatch(text):
        raise CohortError(f"{what} = {text!r}: 1 to 64 letters, digits, blanks and .,'()/&+- are allowed")
    return text


def _row(cells: list[str], where: str) -> Row:
    if len(cells) != len(COLUMNS):
        raise CohortError(f"{where}: {len(cells)} columns, not {len(COLUMNS)}")
    given = {name: cell.strip() for name, cell in zip(COLUMNS, cells, strict=True)}
    sex, pipeline = given["sex"], given["pipeline"]
    if sex not in ("F", "M"):
        raise CohortError(f"{where}: sex = {sex!r}: F or M")
    if pipeline != BY_HAND and not _DIGEST.fullmatch(pipeline):
        raise CohortError(f'{where}: pipeline = {pipeline!r}: 16 hex digits, or "{BY_HAND}"')
    try:
        group, source = (checked_words(given[name], name) for name in ("group", "source"))
    except CohortError as error:
        raise CohortError(f"{where}: {error}") from error
    return Row(
        age=int(_number(given["age"], f"{where}: age", 120, whole=True)),
        sex="F" if sex == "F" else "M",
        volume_ml=_number(given["volume_ml"], f"{where}: volume_ml", 2000),
        lesions=int(_number(given["lesions"], f"{where}: lesions", 100_000, whole=True)),
        pipeline=pipeline,
        group=group,
        source=source,
    )


def _number(text: str, where: str, most: int, *, whole: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most or (whole and value != int(value)):
        raise CohortError(f"{where} = {text!r}: a {'whole ' if whole else ''}number from 0 to {most}")
    return value
