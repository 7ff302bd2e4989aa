"""Content of a study's page: the results of its series, and which of them the page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_node.results.context import ResultContext
from dicom_node.results.findings_record import FindingPicture, FindingsRecord
from dicom_node.results.manifest import Manifest, ResultObject
from dicom_node.results.source import sources_of
from dicom_node.series.volume import load_sources
from pipelines.types import Findings, ModelCard

FLAIR: Final = "flair"
FATSAT: Final = "fatsat"
DAYS_A_YEAR: Final = 365.2425


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
    """

    parts: tuple[Part, ...]
    context: ResultContext
    awaited: tuple[str, ...] = ()
    revision: int = 0
    flair: Part | None = field(init=False)
    fatsat: Part | None = field(init=False)

    def __post_init__(self) -> None:
        """Choose one series of each pipeline."""
        object.__setattr__(self, "flair", _best(self.parts, FLAIR))
        object.__setattr__(self, "fatsat", _best(self.parts, FATSAT))

    @property
    def shown(self) -> tuple[Part, ...]:
        """The parts that the page is on: FLAIR first."""
        return tuple(part for part in (self.flair, self.fatsat) if part is not None)

    @property
    def others(self) -> tuple[Part, ...]:
        """The parts of which the page gives the result in one line only."""
        return tuple(part for part in self.parts if part not in self.shown)

    @property
    def source(self) -> Dataset:
        """Header that patient and study are taken from."""
        return (self.shown or self.parts)[0].source

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """The models behind what is shown, each once."""
        return tuple(dict.fromkeys(model for part in self.shown for model in part.findings.models))

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
        return age_of(self.source)


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
    )


def age_of(source: Dataset) -> float | None:
    """Return the patient's age in years: from the dates of birth and study, else from PatientAge (0010,1010)."""
    born, studied = (_date(source.get(keyword)) for keyword in ("PatientBirthDate", "StudyDate"))
    if born is not None and studied is not None and studied >= born:
        return (studied - born).days / DAYS_A_YEAR
    stated = str(source.get("PatientAge") or "")
    per_year = {"Y": 1.0, "M": 12.0, "W": 52.18, "D": DAYS_A_YEAR}
    if stated[:-1].isdigit() and stated[-1:] in per_year:
        return int(stated[:-1]) / per_year[stated[-1]]
    return None


def _date(value: object) -> date | None:
    text = str(value or "").replace("-", "").replace(".", "").strip()
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _best(parts: Sequence[Part], pipeline: str) -> Part | None:
    """Return the series that the page shows: one that was analysed, with most sides rated, 3D, with the thinnest slices."""
    own = [part for part in parts if part.pipeline == pipeline]
    return min(own, key=_rank, default=None)


def _rank(part: Part) -> tuple[bool, int, bool, float, int, str]:
    source = part.source
    rated = sum(site.status != "not analysed" for site in part.findings.sites)
    number = source.get("SeriesNumber")
    return (
        not part.was_analysed,
        -rated,
        str(source.get("MRAcquisitionType") or "") != "3D",
        float(source.get("SliceThickness") or 99.0),
        int(number) if number not in (None, "") else 0,
        part.job_id,
    )
