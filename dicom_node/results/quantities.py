"""Measured numbers of the structured report (PS3.16 TID 300), with how far they reach below and above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from highdicom import sr
from pydicom.sr.coding import Code

from dicom_node.results import percentile
from dicom_node.standard import codes
from pipelines.types import Findings, Interval, Measurement

BELOW: Final = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
ABOVE: Final = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
"""PS3.16 CID 225, Measurement Uncertainty Concepts."""


def measurement_item(
    item: Measurement, finding_sites: Sequence[sr.FindingSite] | None = None
) -> sr.Measurement:
    """Return a measurement of the findings; raises `UnknownCodeError` for a code key that the node does not know."""
    derivation = codes.derivation_code(item.derivation) if item.derivation else None
    name = codes.measurement_code(item.code)
    return number_item(
        name,
        item.value,
        item.unit,
        derivation=derivation,
        interval=item.interval,
        finding_sites=finding_sites,
    )


def number_item(
    name: Code,
    value: float,
    unit: str,
    derivation: Code | None = None,
    interval: Interval | None = None,
    finding_sites: Sequence[sr.FindingSite] | None = None,
    properties: sr.MeasurementProperties | None = None,
) -> sr.Measurement:
    """Return a NUM item, whole or with three decimals.

    An interval becomes its two distances from the value (TID 310, CID 225). highdicom's own template states these without
    a unit, so they are added here, in the unit of the value.
    """
    measured = sr.Measurement(
        name=name,
        value=_shown(value),
        unit=codes.unit_code(unit),
        derivation=derivation,
        finding_sites=finding_sites,
        properties=properties,
    )
    if interval is not None:
        content = measured[0].get("ContentSequence") or sr.ContentSequence()
        for code, distance in ((BELOW, value - interval.low), (ABOVE, interval.high - value)):
            content.append(
                sr.NumContentItem(
                    name=code,
                    value=_shown(max(distance, 0.0)),
                    unit=codes.unit_code(unit),
                    relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES,
                )
            )
        measured[0].ContentSequence = content
    return measured


def percentile_properties(findings: Findings) -> sr.MeasurementProperties | None:
    """Return the place of the total volume in a cohort (TID 310, TID 311): rank, population, authority; None without one."""
    found = findings.percentile
    if found is None:
        return None
    ranking = sr.NumContentItem(
        name=codes.PERCENTILE_RANKING,
        value=percentile.rank(found),
        unit=codes.unit_code("%"),
        relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES,
    )
    population = (
        f"{found.patients} {percentile.people(found)}, {percentile.matching(found)}; "
        f"95 % interval of the rank {percentile.interval_text(found)}"
    )
    return sr.MeasurementProperties(
        measurement_statistical_properties=sr.MeasurementStatisticalProperties(
            values=[ranking], description=population, authority=percentile.origin(found)
        )
    )


def _shown(value: float) -> int | float:
    return int(value) if float(value).is_integer() else round(float(value), 3)
