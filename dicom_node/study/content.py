"""Content of a study's page: the results of its series, and which of them the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.context import ResultContext
from dicom_node.results.findings_record import FindingPicture, FindingsRecord
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.results.source import age_years, sources_of
from dicom_node.series.volume import load_sources
from pipelines.types import Findings, ModelCard

FLAIR: Final = "flair"
FATSAT: Final = "fatsat"
CHANGE: Final = "change"


@dataclass(frozen=True)
class Part:
    """Result of one series of the study.

    Parameters
    ----------
    pipeline, title : str
        What analysed it, by name and as readers call it.
    job_id : str
        The analysis.
    findings : Findings
        Without masks and maps.
    source : Dataset
        Header of one of its images, as UTF-8.
    images : int
        How many there are.
    folder : Path
        Where the pictures are.
    pictures : tuple of FindingPicture
    objects : tuple of ResultObject
        What was returned of it.
    note : str
        What the report must say of the input.
    comparison : ComparisonRecord or None
        Of a comparison with an earlier study, which is no result of a series of its own.
    """

    pipeline: str
    title: str
    job_id: str
    findings: Findings
    source: Dataset
    images: int
    folder: Path
    pictures: tuple[FindingPicture, ...] = ()
    objects: tuple[ResultObject, ...] = ()
    note: str = ""
    comparison: ComparisonRecord | None = None

    @property
    def was_analysed(self) -> bool:
        """True when the analysis ran, whatever it found."""
        return self.findings.status in ("findings", "none")


@dataclass(frozen=True)
class StudyContent:
    """Everything that the objects on a study say.

    Parameters
    ----------
    parts : tuple of Part
        At least one.
    awaited : tuple of str
        Pipelines whose answers are still awaited.
    context : ResultContext
        Of the page's own job.
    revision : int
        0 for the first page of a study.
    no_prior : str or None
        Why an earlier study that was searched for was not found; None where none was searched for, or one was found.
    """

    parts: tuple[Part, ...]
    context: ResultContext
    awaited: tuple[str, ...] = ()
    revision: int = 0
    no_prior: str | None = None
    flair: Part | None = field(init=False)
    fatsat: Part | None = field(init=False)
    change: Part | None = field(init=False)

    def __post_init__(self) -> None:
        """Choose one series of each pipeline, and the comparison of the FLAIR series."""
        object.__setattr__(self, "flair", _best(self.parts, FLAIR))
        object.__setattr__(self, "fatsat", _best(self.parts, FATSAT))
        object.__setattr__(self, "change", _comparison_of(self.flair, self.parts))

    @property
    def shown(self) -> tuple[Part, ...]:
        """The parts that the page is on: FLAIR first."""
        return tuple(part for part in (self.flair, self.fatsat) if part is not None)

    @property
    def others(self) -> tuple[Part, ...]:
        """The parts of which the page gives the result in one line only."""
        return tuple(part for part in self.parts if part not in self.shown and part.pipeline != CHANGE)

    @property
    def changes(self) -> tuple[Part, ...]:
        """The comparisons with earlier studies."""
        return tuple(part for part in self.parts if part.pipeline == CHANGE)

    @property
    def source(self) -> Dataset:
        """Header that patient and study are taken from."""
        return (self.shown or self.parts)[0].source

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """The models behind what is shown, each once."""
        models = [model for part in self.shown for model in part.findings.models]
        if self.change is not None and self.change.comparison is not None:
            models += self.change.comparison.models
        return tuple(dict.fromkeys(models))

    @property
    def flair_findings(self) -> Findings | None:
        """Findings of the FLAIR series; None where there is none."""
        return self.flair.findings if self.flair else None

    @property
    def fatsat_findings(self) -> Findings | None:
        """Findings of the FAT-SAT series; None where there is none."""
        return self.fatsat.findings if self.fatsat else None

    @property
    def age_years(self) -> float | None:
        """The patient's age on the day of the study; None where it is not known."""
        return age_years(self.source)


def part_of(folder: Path, image: Path, images: int, *, pipeline: str, title: str, note: str = "") -> Part:
    """Return one part of a study from its result folder and one of its images.

    Raises
    ------
    NodeError
        One of them can't be read.
    """
    manifest, record = Manifest.read(folder), FindingsRecord.read(folder)
    plain = Findings(manifest.status, manifest.reason, warnings=manifest.warnings)
    return Part(
        pipeline=pipeline,
        title=title,
        job_id=manifest.job_id,
        findings=record.findings() if record is not None else plain,
        source=sources_of(load_sources([image]))[0],
        images=images,
        folder=folder,
        pictures=record.pictures if record is not None else (),
        objects=manifest.objects,
        note=note,
        comparison=ComparisonRecord.read(folder),
    )


def _best(parts: Sequence[Part], pipeline: str) -> Part | None:
    """Return the series that the page shows: analysed, most sides rated, best compared, 3D, with the thinnest slices."""
    own = [part for part in parts if part.pipeline == pipeline]
    return min(own, key=lambda part: _rank(part, _grade_of(part, parts)), default=None)


def _grade_of(part: Part, parts: Sequence[Part]) -> str:
    """Return how far a series can be compared with an earlier study: "A" to "D", or "E" where it was not."""
    found = _comparison_of(part, parts)
    return "E" if found is None or found.comparison is None else found.comparison.comparability.grade


def _comparison_of(flair: Part | None, parts: Sequence[Part]) -> Part | None:
    """Return the comparison of a series with an earlier study, the one of the best grade and with the latest prior."""
    if flair is None:
        return None
    series_uid = str(flair.source.get("SeriesInstanceUID") or "")
    own = [
        part
        for part in parts
        if part.pipeline == CHANGE
        and part.comparison is not None
        and part.comparison.series_uid == series_uid
    ]
    return min(own, key=_comparison_rank, default=None)


def _comparison_rank(part: Part) -> tuple[str, int, str]:
    record = part.comparison
    if record is None:
        return "E", 0, part.job_id
    latest = record.prior_day.toordinal() if record.prior_day is not None else 0
    return record.comparability.grade, -latest, part.job_id


def _rank(part: Part, grade: str) -> tuple[bool, int, str, bool, float, int, str]:
    source = part.source
    rated = sum(site.status != "not analysed" for site in part.findings.sites)
    number = source.get("SeriesNumber")
    return (
        not part.was_analysed,
        -rated,
        grade,
        str(source.get("MRAcquisitionType") or "") != "3D",
        float(source.get("SliceThickness") or 99.0),
        int(number) if number not in (None, "") else 0,
        part.job_id,
    )
