"""The message from node to worker: all that a worker must know of one run of a job, and in which version it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from dicom_node import __version__
from dicom_node.errors import MessageError
from dicom_node.results.context import ResultContext

ObjectUids = tuple[str, str, str, str]
"""SOP class, SOP instance, series and study."""


@dataclass(frozen=True)
class ResultSettings:
    """``[results]`` of the node's configuration, as far as a worker needs it."""

    heatmap_slices: Literal["key", "all"]
    when_unsuitable: Literal["report", "silent"]
    differential: Literal["text", "coded", "off"]
    series_number: Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class KnownLesion:
    """Lesion of a prior as an earlier comparison knew it.

    Parameters
    ----------
    number : int
        Its ID in the findings of that time.
    centre_lps : tuple of float
        Its centre, mm, LPS.
    uid, identifier : str
        Under which it is tracked.
    examined : str
        Analysis that numbered it, as `PriorImages.examined`; another one may number otherwise.
    """

    number: int
    centre_lps: tuple[float, float, float]
    uid: str
    identifier: str
    examined: str


@dataclass(frozen=True)
class PriorImages:
    """Prior that a job compares its images with.

    Parameters
    ----------
    images : tuple of str
        Paths relative to the data folder.
    examined : str
        Where what its analysis found is kept, relative to the data folder.
    refusal : str
        Why it is no longer a prior, in one line; then nothing is compared.
    lesions, current_lesions : tuple of KnownLesion
        Lesions of the prior, and of the current series, that were tracked already.
    last_number : int
        Highest number that a lesion of the patient has.
    others : tuple of str
        Other priors that were there, each by day and grade ("2025-03-01 (C)").
    """

    images: tuple[str, ...]
    examined: str
    refusal: str = ""
    lesions: tuple[KnownLesion, ...] = ()
    current_lesions: tuple[KnownLesion, ...] = ()
    last_number: Annotated[int, Field(ge=0)] = 0
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobMessage:
    """Request for one run of a job.

    Parameters
    ----------
    images : tuple of str
        Paths relative to the data folder.
    note : str
        What the reports must say of the input ("2 images missing"); with a note a series with a gap is analysed.
    replaces : tuple of ObjectUids
        Reports that those of this run take the place of.
    created_at : datetime
        Date and time of everything in the result objects.
    examined : str
        Where what the analysis of these images finds is kept for comparisons, relative to the data folder; "" where nothing is
        compared.
    prior : PriorImages or None
        Of a comparison: what the images are compared with. Workers that know no comparisons take none from its queue.

    Attributes
    ----------
    VERSION : int
        Of the form in which messages are written and read here. A field that older workers may pass over needs no
        new version; any other change does. Node and workers of 0.1.0 write no version, which is 1, and look at none:
        a later form that they would misread needs another name for the task as well.
    """

    VERSION: ClassVar[int] = 1

    node_id: str
    job_id: str
    run: Annotated[int, Field(ge=1)]
    pipeline: str
    settings: dict[str, Any]
    images: tuple[str, ...]
    results: ResultSettings
    note: str
    replaces: tuple[ObjectUids, ...]
    created_at: AwareDatetime
    examined: str = ""
    prior: PriorImages | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the message as it goes over the wire: numbers, strings, lists and objects; what is empty is left out."""
        fields: dict[str, Any] = _form().dump_python(self, mode="json")
        for name in ("examined", "prior"):
            if not fields[name]:
                del fields[name]
        return {"version": self.VERSION, **fields}

    @classmethod
    def from_json(cls, found: object) -> JobMessage:
        """Return a message as it came over the wire; fields that are not known are passed over.

        Raises
        ------
        MessageError
            It is of another version, or a field is missing or not what it must be. The line holds no value of a field.
        """
        if not isinstance(found, dict):
            raise MessageError(f"the message is a {type(found).__name__}, not an object with fields")
        version = found.get("version", 1)
        if isinstance(version, bool) or not isinstance(version, int):
            raise MessageError(
                f"the version of the message is a {type(version).__name__}, not a whole number"
            )
        if version != cls.VERSION:
            raise MessageError(f"the message is of version {version}, and version {cls.VERSION} is read here")
        try:
            return _form().validate_json(json.dumps(found), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            reason = "is missing" if first["type"] == "missing" else f"is wrong: {first['msg'].lower()}"
            raise MessageError(f'"{field}" of the message {reason}') from None
        except (TypeError, ValueError, RecursionError):
            raise MessageError("the message is no JSON") from None

    def context(self, title: str) -> ResultContext:
        """Return what the result objects of this run say of it.

        Parameters
        ----------
        title : str
            What a reader calls the pipeline.
        """
        return ResultContext(
            node_id=self.node_id,
            node_version=__version__,
            job_id=self.job_id,
            run=self.run,
            pipeline=self.pipeline,
            title=title,
            created_at=self.created_at,
            heatmap_slices=self.results.heatmap_slices,
            when_unsuitable=self.results.when_unsuitable,
            differential=self.results.differential,
            series_number_base=self.results.series_number,
            note=self.note,
            replaces=self.replaces,
            other_priors=self.prior.others if self.prior is not None else (),
        )


@cache
def _form() -> TypeAdapter[JobMessage]:
    return TypeAdapter(JobMessage)


def version_conflict(worker: str, program: str, reads: int) -> str:
    """Return the sentence on a worker that reads another version of messages than this node writes; "" if it does not.

    Parameters
    ----------
    worker : str
        Its host and process.
    program : str
        The version of the program that it is.
    reads : int
        The version of the messages that it reads.
    """
    if reads == JobMessage.VERSION:
        return ""
    older = "worker" if reads < JobMessage.VERSION else "node"
    return (
        f"worker {worker} is of version {program} and reads messages of version {reads}, this node is of version "
        f"{__version__} and writes version {JobMessage.VERSION}: update the {older}; jobs wait until then"
    )
