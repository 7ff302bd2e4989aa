"""Record of findings beside the objects, ``findings.json``: what a pipeline found, without masks and maps, and its pictures.

The page of a study is made from it, so that no figure is computed twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from dicom_node.results.context import ResultContext
from dicom_node.results.json_record import read_record, write_record
from pipelines.types import (
    Anatomy,
    Counting,
    Findings,
    Hypothesis,
    Laterality,
    Lesion,
    Measurement,
    ModelCard,
    NotTypical,
    Percentile,
    Rule,
    SiteFinding,
    Status,
)

FILE_NAME = "findings.json"


@dataclass(frozen=True)
class FindingPicture:
    """Picture of one finding, a PNG in the result folder.

    Parameters
    ----------
    file : str
        Its name in the folder.
    image_number : int
        The source image that it shows, as viewers number it.
    sides : tuple of str
        Letters of the left, right, upper and lower edge.
    lesion : int or None
        The lesion that it shows.
    laterality : "left", "right" or None
        The side whose structure it shows.
    """

    file: str
    image_number: int
    sides: tuple[str, str, str, str]
    lesion: int | None = None
    laterality: Laterality | None = None


@dataclass(frozen=True)
class FindingsRecord:
    """Findings as far as they are words and numbers, under the names that they have in `pipelines.types.Findings`.

    ``pipeline_digest``: of the pipeline with its weights and settings; "" in records of before version 0.2.0.
    """

    status: Status
    reason: str = ""
    lesions: tuple[Lesion, ...] = ()
    counting: Counting | None = None
    anatomy: Anatomy | None = None
    percentile: Percentile | None = None
    measurements: tuple[Measurement, ...] = ()
    sites: tuple[SiteFinding, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    no_differential: str = ""
    rules: tuple[Rule, ...] = ()
    not_typical: tuple[NotTypical, ...] = ()
    warnings: tuple[str, ...] = ()
    models: tuple[ModelCard, ...] = ()
    pictures: tuple[FindingPicture, ...] = ()
    pipeline_digest: str = ""

    @classmethod
    def of(
        cls,
        findings: Findings,
        context: ResultContext,
        pictures: Sequence[FindingPicture],
        pipeline_digest: str = "",
    ) -> FindingsRecord:
        """Return the record of findings; with the differential off it holds no probability of a disease."""
        names = {field.name for field in fields(cls)} & {field.name for field in fields(Findings)}
        told = {name: getattr(findings, name) for name in names}
        if context.differential == "off":
            told |= {"hypotheses": (), "rules": (), "no_differential": ""}
        return cls(**told, pictures=tuple(pictures), pipeline_digest=pipeline_digest)

    def findings(self) -> Findings:
        """Return the findings without masks and maps."""
        names = {field.name for field in fields(self)} & {field.name for field in fields(Findings)}
        return Findings(**{name: getattr(self, name) for name in names})

    def write(self, folder: Path) -> Path:
        """Write ``findings.json``, durably, and return its path.

        Raises
        ------
        SpoolError
            It can't be written.
        """
        return write_record(self, folder / FILE_NAME)

    @classmethod
    def read(cls, folder: Path) -> FindingsRecord | None:
        """Read a folder's record; None where there is none, as of results that were made without one.

        Raises
        ------
        ResultError
            It can't be read.
        """
        return read_record(_form(), folder / FILE_NAME, "record of findings")


@cache
def _form() -> TypeAdapter[FindingsRecord]:
    return TypeAdapter(FindingsRecord)
