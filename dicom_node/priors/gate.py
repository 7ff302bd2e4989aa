"""The gate of identity and time: is an earlier study the same person's, and far enough before the present one?"""

from __future__ import annotations

from datetime import date

from dicom_node.config.sections import PriorsSection
from dicom_node.priors.examination import Examination
from dicom_node.series.identity import Identity

DAYS_A_YEAR = 365.25


def identity_refusal(ours: Identity, other: Identity, *, ignore_issuer: bool = False) -> str:
    """Return why an earlier study does not count as the same person's; "" where it does.

    Patient IDs and birth dates are there and equal, issuers equal where both are given, the sexes not contrary. Names do not
    count: they change, and are written in many ways. Merged patients and other patient IDs are not followed.
    """
    for part, name in (("patient_id", "patient ID"), ("birth_date", "birth date")):
        one, two = getattr(ours, part), getattr(other, part)
        if not (one and two):
            return f"{name} missing"
        if one != two:
            return f"{name} differs"
    if not ignore_issuer and ours.issuer and other.issuer and ours.issuer != other.issuer:
        return "issuer of patient ID differs"
    if ours.sex and other.sex and ours.sex != other.sex:
        return "sex differs"
    return ""


def time_refusal(examination: Examination, day: date | None, section: PriorsSection) -> str:
    """Return why a study of some day is no prior of an examination; "" where it is one by its date."""
    if day is None:
        return "no date of the study"
    days = examination.days_since(day)
    if days < section.min_days:
        return f"fewer than min_days = {section.min_days} days earlier"
    if days > section.max_age_years * DAYS_A_YEAR:
        return f"older than max_age_years = {section.max_age_years:g}"
    return ""
