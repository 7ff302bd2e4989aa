"""Manifest of a finished result folder, as ``manifest.json``: the node reads nothing else of a worker's work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from dicom_node.errors import ResultError
from dicom_node.results.context import ResultContext
from dicom_node.spool.durable import write_durably
from pipelines.types import Findings, Interval, Measurement, SiteFinding, Status

FILE_NAME = "manifest.json"
MM3_IN = {"mm3": 1.0, "mL": 1000.0}
"""Units of volume."""

Role = Literal[
    "outline",
    "seg",
    "sr",
    "text-sr",
    "heatmap",
    "sr-enhanced",
    "change-seg",
    "change-picture",
    "change-sr",
    "change-sr-enhanced",
    "change-text",
    "summary",
    "summary-text",
    "summary-sr",
    "summary-sr-enhanced",
    "summary-pdf",
]
"""Those that begin with ``summary`` are on a whole study, with ``change`` on what has changed since an earlier one.

``sr-enhanced`` is the tree of ``sr`` as Enhanced SR: kept for a PACS that refuses Comprehensive 3D SR, else not sent; so are
``change-sr-enhanced`` and ``summary-sr-enhanced``.
"""


@dataclass(frozen=True)
class ResultObject:
    """One DICOM file of a result; ``path`` is its name within the folder."""

    role: Role
    path: str
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A result folder: the outcome, its objects, and the figures that the worklog shows. No patient identification."""

    job_id: str
    run: int
    pipeline: str
    status: Status
    reason: str
    created_at: str
    objects: tuple[ResultObject, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    models: tuple[Mapping[str, str], ...] = ()

    def write(self, folder: Path) -> Path:
        """Write ``manifest.json``, durably, and return its path.

        Raises
        ------
        SpoolError
            It can't be written.
        """
        path = folder / FILE_NAME
        write_durably(path, json.dumps(asdict(self), indent=1, sort_keys=True))
        return path

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a folder's manifest.

        Raises
        ------
        ResultError
            There is none, or it is not one.
        """
        path = folder / FILE_NAME
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            objects = tuple(ResultObject(**item) for item in values.pop("objects"))
            warnings = tuple(values.pop("warnings"))
            models = tuple(values.pop("models"))
            # What a newer node added is passed over.
            known = {name: values[name] for name in values if name in cls.__dataclass_fields__}
            return cls(**known, objects=objects, warnings=warnings, models=models)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ResultError(f"{path} is not a manifest: {error}") from error

    def with_role(self, role: Role) -> tuple[ResultObject, ...]:
        """Return the objects of one role."""
        return tuple(item for item in self.objects if item.role == role)


def figures_of(findings: Findings) -> dict[str, Any]:
    """Return the numbers of an outcome.

    lesions, volume_ml and its interval (volume_low_ml, volume_high_ml), probability of each side;
    ``sides``, one line on all sides that were judged, and ``sites`` with the numbers of each.
    """
    figures: dict[str, Any] = {}
    count, volume_mm3 = lesion_count(findings), total_volume_mm3(findings)
    if count is not None:
        figures["lesions"] = count
    if volume_mm3 is not None:
        figures["volume_ml"] = round(volume_mm3 / 1000, 2)
    interval = total_volume_interval(findings)
    if interval is not None:
        figures["volume_low_ml"] = round(interval.low / 1000, 2)
        figures["volume_high_ml"] = round(interval.high / 1000, 2)
    for measurement in findings.measurements:
        if measurement.code == "probability" and measurement.laterality:
            figures.setdefault("probability", {})[measurement.laterality] = round(measurement.value, 2)
    if findings.sites:
        figures["sides"] = sides_line(findings.sites)
        figures["sites"] = {site_name(site): _site_figures(site) for site in findings.sites}
    return figures


def site_name(site: SiteFinding) -> str:
    """Return what a reader calls a side's structure ("right optic nerve")."""
    return f"{site.laterality} {site.site.replace('_', ' ')}"


def sides_line(sites: Sequence[SiteFinding]) -> str:
    """Return the answers for all sides in one line: "right optic nerve positive (0.91), left negative (0.12)"."""
    parts = []
    for number, site in enumerate(sites):
        name = site.laterality if number else site_name(site)
        shown = "" if site.probability is None else f" ({site.probability:.2f})"
        parts.append(f"{name} {site.status}{shown}")
    return ", ".join(parts)


def _site_figures(site: SiteFinding) -> dict[str, Any]:
    figures: dict[str, Any] = {"status": site.status}
    for name in ("probability", "threshold", "coverage", "saliency_share"):
        value = getattr(site, name)
        if value is not None:
            figures[name] = round(value, 3)
    if site.interval is not None:
        figures |= {
            "probability_low": round(site.interval.low, 3),
            "probability_high": round(site.interval.high, 3),
        }
    if site.located:
        figures["located"] = site.located
    if site.reason:
        figures["reason"] = site.reason
    return figures


def lesion_count(findings: Findings) -> int | None:
    """Return how many lesions the findings state, or else list; None where the pipeline counts none."""
    if findings.sites:
        return None
    stated = [
        item.value for item in findings.measurements if item.code == "lesion_count" and _is_overall(item)
    ]
    if stated:
        return round(stated[0])
    return len(findings.lesions) if findings.lesions or findings.status == "none" else None


def total_volume_mm3(findings: Findings) -> float | None:
    """Return the total lesion volume that the findings state, or else list, in mm3, as the reports round it.

    None where the pipeline measures none.
    """
    if findings.sites:
        return None
    stated = _total_volume(findings)
    if stated is not None:
        return round(stated.value * MM3_IN[stated.unit], 3)
    if findings.lesions or findings.status == "none":
        return round(sum(lesion.volume_mm3 for lesion in findings.lesions), 3)
    return None


def total_volume_interval(findings: Findings) -> Interval | None:
    """Return the interval of the total lesion volume, in mm3, as the reports round it; None where none is stated."""
    stated = _total_volume(findings)
    if stated is None or stated.interval is None:
        return None
    low, high = (
        round(value * MM3_IN[stated.unit], 3) for value in (stated.interval.low, stated.interval.high)
    )
    return Interval(low, high, stated.interval.basis)


def _total_volume(findings: Findings) -> Measurement | None:
    for item in findings.measurements:
        if item.code == "volume" and _is_overall(item) and item.unit in MM3_IN:
            return item
    return None


def _is_overall(item: Measurement) -> bool:
    return not (item.region or item.laterality)


def manifest_of(
    findings: Findings,
    context: ResultContext,
    objects: tuple[ResultObject, ...] | list[ResultObject],
    timings_s: Mapping[str, float] | None = None,
) -> Manifest:
    """Return the manifest of one run; ``timings_s`` adds to the pipeline's own."""
    return Manifest(
        job_id=context.job_id,
        run=context.run,
        pipeline=context.pipeline,
        status=findings.status,
        reason=findings.reason,
        created_at=context.created_at.isoformat(),
        objects=tuple(objects),
        timings_s={**findings.timings_s, **(timings_s or {})},
        figures=figures_of(findings),
        warnings=findings.warnings,
        models=tuple(asdict(model) for model in findings.models),
    )
