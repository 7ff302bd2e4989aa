"""Record of a comparison beside its objects, ``comparison.json``: its words and numbers, without images, and its pictures.

Reports, pictures and the page of a study are made from it, so that all of them say the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.results.json_record import read_record, write_record
from dicom_node.results.tracking import TrackedLesion
from pipelines.comparison import (
    Change,
    Comparability,
    Comparison,
    LesionChange,
    SelfGrade,
    UnchangedLesion,
)
from pipelines.types import ModelCard

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

FILE_NAME: Final = "comparison.json"
LESS: Final[frozenset[Change]] = frozenset({"smaller", "resolved"})
"""Kinds of change after which there is less of a lesion than before."""
_DAYS: Final = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")


@dataclass(frozen=True)
class ChangePicture:
    """Picture of one change, a PNG in the result folder: two squares side by side, the prior at the left.

    Parameters
    ----------
    file : str
        Its name in the folder.
    change : int
        Number of the change that it shows.
    image_number : int
        The image of the current series that it shows, as viewers number it.
    sides : tuple of str
        Letters of the left, right, upper and lower edge of each square.
    """

    file: str
    change: int
    image_number: int
    sides: tuple[str, str, str, str]


@dataclass(frozen=True)
class ComparisonRecord:
    """Comparison as far as it is words and numbers, under the names that they have in `pipelines.comparison.Comparison`.

    Parameters
    ----------
    series_uid : str
        The current series.
    day, prior_day : date or None
        Of both examinations; None where the images do not say it.
    lesions : mapping of int to TrackedLesion
        Identity of each changed lesion, by the number of its change.
    images : mapping of int to int
        The image of the current series that shows most of a change, as viewers number it, by the number of the change.
    unchanged_lesions : mapping of int to TrackedLesion
        Identity of each unchanged lesion, by its ID in the current findings.
    """

    series_uid: str
    day: date | None
    prior_day: date | None
    comparability: Comparability
    not_compared: str = ""
    changes: tuple[LesionChange, ...] = ()
    lesions: Mapping[int, TrackedLesion] = field(default_factory=dict)
    images: Mapping[int, int] = field(default_factory=dict)
    unchanged: tuple[UnchangedLesion, ...] = ()
    unchanged_lesions: Mapping[int, TrackedLesion] = field(default_factory=dict)
    volume_mm3: float = 0.0
    prior_volume_mm3: float = 0.0
    is_within_error: bool = True
    self_grade: SelfGrade | None = None
    warnings: tuple[str, ...] = ()
    models: tuple[ModelCard, ...] = ()
    pictures: tuple[ChangePicture, ...] = ()

    @classmethod
    def of(
        cls,
        comparison: Comparison,
        current: LoadedSeries,
        prior: LoadedSeries,
        tracking: Mapping[int, TrackedLesion],
        images: Mapping[int, int] | None = None,
        pictures: Sequence[ChangePicture] = (),
    ) -> ComparisonRecord:
        """Return the record of a comparison; at grade C no change of it is certain, at grade D there is none.

        Parameters
        ----------
        tracking : mapping of int to TrackedLesion
            By the ID of the lesion in the current findings; of resolved ones by the negative ID of the prior lesion.
        """
        changes = told_changes(comparison)
        return cls(
            series_uid=str(current.datasets[0].SeriesInstanceUID),
            day=day_of(current.datasets),
            prior_day=day_of(prior.datasets),
            comparability=comparison.comparability,
            not_compared=comparison.not_compared,
            changes=changes,
            lesions={one.number: _identity(one, tracking, current) for one in changes},
            images=dict(images or {}),
            unchanged=(unchanged := told_unchanged(comparison, tracking)),
            unchanged_lesions={one.lesion: tracking[one.lesion] for one in unchanged},
            volume_mm3=comparison.volume_mm3,
            prior_volume_mm3=comparison.prior_volume_mm3,
            is_within_error=bool(comparison.is_within_error),
            self_grade=comparison.self_grade,
            warnings=comparison.warnings,
            models=comparison.models,
            pictures=tuple(pictures),
        )

    @property
    def is_compared(self) -> bool:
        """True where there is a comparison, whatever it found."""
        return not self.not_compared and self.comparability.grade != "D"

    @property
    def counts_unchanged(self) -> bool:
        """True where the images are alike enough to call a lesion unchanged."""
        return self.is_compared and self.comparability.grade != "C"

    @property
    def days(self) -> int | None:
        """Days from the prior to the current examination; None where one of them has no date."""
        return None if self.day is None or self.prior_day is None else (self.day - self.prior_day).days

    def count(self, change: Change, *, possible: bool = False) -> int:
        """Return how many changes of a kind there are, sure ones unless the possible ones are asked for."""
        return sum(one.change == change and one.possible == possible for one in self.changes)

    def write(self, folder: Path) -> Path:
        """Write ``comparison.json``, durably, and return its path.

        Raises
        ------
        SpoolError
            It can't be written.
        """
        return write_record(self, folder / FILE_NAME)

    @classmethod
    def read(cls, folder: Path) -> ComparisonRecord | None:
        """Read a folder's record; None where there is none.

        Raises
        ------
        ResultError
            It can't be read.
        """
        return read_record(_form(), folder / FILE_NAME, "record of a comparison")


def told_changes(comparison: Comparison) -> tuple[LesionChange, ...]:
    """Return the changes that reports tell: all of them possible at grade C, none at grade D.

    What is new or larger comes before what is smaller or gone, and of both what is certain before what is possible.
    """
    grade = comparison.comparability.grade
    if grade == "D" or comparison.not_compared:
        return ()
    told = [replace(one, possible=one.possible or grade == "C") for one in comparison.changes]
    # stable: the order of the comparison within each
    return tuple(sorted(told, key=lambda one: (one.change in LESS, one.possible)))


def told_unchanged(
    comparison: Comparison, tracking: Mapping[int, TrackedLesion]
) -> tuple[UnchangedLesion, ...]:
    """Return the tracked lesions that reports tell to be unchanged; none at grade C, where nothing is certain."""
    if comparison.not_compared or comparison.comparability.grade not in ("A", "B"):
        return ()
    return tuple(one for one in comparison.unchanged if one.lesion in tracking)


def day_of(sources: Iterable[Dataset]) -> date | None:
    """Return the day of an examination, by StudyDate (0008,0020), else by the dates of acquisition, series and content."""
    for source in sources:
        for keyword in _DAYS:
            digits = "".join(filter(str.isdigit, str(source.get(keyword) or "")))
            try:
                return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
            except ValueError:
                continue
    return None


def _identity(
    change: LesionChange, tracking: Mapping[int, TrackedLesion], current: LoadedSeries
) -> TrackedLesion:
    """Return the identity of a changed lesion; of one that no mask has, one of its own that ends with this comparison."""
    keys = [change.lesion, None if change.prior_lesion is None else -change.prior_lesion]
    for key in keys:
        if key is not None and key in tracking:
            return tracking[key]
    series = str(current.datasets[0].SeriesInstanceUID)
    return TrackedLesion(_untracked_uid(series, change.number), f"C{change.number:02d}")


def _untracked_uid(series_uid: str, number: int) -> str:
    return str(generate_uid(entropy_srcs=["change", series_uid, str(number)]))


@cache
def _form() -> TypeAdapter[ComparisonRecord]:
    return TypeAdapter(ComparisonRecord)
