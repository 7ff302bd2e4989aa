"""Sentences on what has changed since an earlier study, in one place: reports, pictures and the page say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from dicom_node.results.comparison_record import ComparisonRecord
from dicom_node.results.dissemination import REGION_NAMES
from dicom_node.results.tracking import TrackedLesion
from dicom_node.results.wording import rounded_mm3, volume_text
from pipelines.comparison import CHANGES, WITHIN_ERROR, Change, LesionChange, UnchangedLesion
from pipelines.types import Region

TINY_MM3: Final = 100.0
"""A lesion that was smaller than this gets no percentage: a voxel more or less would change it by much."""
NO_PRIOR: Final = "No prior FLAIR found"
ACQUIRED_ALIKE: Final = "acquired alike"
POSSIBLE: Final = "Possible: too faint, too small, or in images too little alike, to be certain."
RESAMPLED: Final = (
    "The prior is shown resampled onto the current image, each with grey levels of its own; "
    "corners mark the same place in both."
)
TRACKED: Final = "L numbers stay with a lesion from study to study; the number that it is outlined as is of this study alone."


def no_prior_sentence(reason: str) -> str:
    """Return that there is nothing to compare with, and why."""
    return f"{NO_PRIOR}: {reason.rstrip('.')}." if reason else f"{NO_PRIOR}."


def since(record: ComparisonRecord) -> str:
    """Return the day of the prior."""
    return record.prior_day.isoformat() if record.prior_day else "the prior study"


def change_sentence(record: ComparisonRecord) -> str:
    """Return what has changed in one line, for a headline: what is certain, and how many new lesions are possible."""
    grade = record.comparability.grade
    if not record.is_compared:
        reason = record.not_compared or ", ".join(record.comparability.reasons) or "not comparable"
        return f"Not compared with {since(record)}: {reason.rstrip('.')}."
    possible = record.count("new", possible=True)
    if grade == "C":
        noun = "possible new lesion" if possible <= 1 else "possible new lesions"
        return f"Nothing certain since {since(record)} (comparability C). {possible or 'No'} {noun}."
    new = record.count("new")
    noun = "new lesion" if new <= 1 else "new lesions"
    said = [f"{new or 'No'} {noun} since {since(record)} (comparability {grade})."]
    if possible:
        said.append(f"{possible} possible.")
    said.append(_kind_clause(record, "enlarging", always=True))
    said += [_kind_clause(record, kind) for kind in ("smaller", "resolved")]
    return " ".join(filter(None, said))


def _kind_clause(record: ComparisonRecord, kind: Change, *, always: bool = False) -> str:
    """Return how many lesions changed in one way: ``None enlarging.``, ``1 smaller.``."""
    sure = record.count(kind)
    possible = record.count(kind, possible=True) if always else 0
    if not sure and not always:
        return ""
    return f"{sure or 'None'} {kind}{f' ({possible} possible)' if possible else ''}."


def counts_sentence(record: ComparisonRecord) -> str:
    """Return the number of changes of each kind, with the possible ones beside them; nothing where nothing was compared."""
    if not record.is_compared:
        return ""
    told = []
    for kind in CHANGES:
        sure, possible = record.count(kind), record.count(kind, possible=True)
        told.append(f"{kind} {sure}{f' ({possible} possible)' if possible else ''}")
    if record.counts_unchanged:
        told.append(f"unchanged {len(record.unchanged)}")
    return f"Lesions since {since(record)}: {', '.join(told)}."


def comparability_sentence(record: ComparisonRecord) -> str:
    """Return how far both examinations can be compared, and why no further."""
    found = record.comparability
    days = "" if record.days is None else f", {record.days} days before"
    reasons = ", ".join(found.reasons) or (ACQUIRED_ALIKE if found.grade == "A" else "")
    return f"Prior of {since(record)}{days}: comparability {found.grade}{reasons and f', {reasons}'}."


def reasons_sentence(record: ComparisonRecord) -> str:
    """Return the grade of comparability with its reasons alone."""
    found = record.comparability
    reasons = ", ".join(found.reasons) or (ACQUIRED_ALIKE if found.grade == "A" else "")
    return f"Comparability {found.grade}{reasons and f': {reasons}'}."


def other_priors_sentence(others: Sequence[str]) -> str:
    """Return which other earlier studies were there, by day and grade; nothing where there was none."""
    return f"Other earlier studies at hand, with their comparability: {', '.join(others)}." if others else ""


def acquisition_sentence(record: ComparisonRecord) -> str:
    """Return what differs between both acquisitions, then and now; nothing where they are alike."""
    rows = [
        f"{row.name} {row.prior or '-'} and {row.current or '-'}"
        for row in record.comparability.table
        if row.differs
    ]
    return f"Acquisition then and now: {', '.join(rows)}." if rows else ""


def acquisition_rows(record: ComparisonRecord, most: int) -> list[tuple[str, str, str]]:
    """Return the table of both acquisitions, name, then and now: what differs first, and no more rows than ``most``."""
    rows = sorted(record.comparability.table, key=lambda row: not row.differs)[:most]
    return [(f"{row.name[:1].upper()}{row.name[1:]}", row.prior or "-", row.current or "-") for row in rows]


def fraction_text(fraction: float) -> str:
    """Return a relative change in percent, with its sign."""
    return f"{100 * fraction:+.0f} %".replace("+0 %", "0 %").replace("-0 %", "0 %")


def fractional_change(volume_mm3: float, prior_mm3: float) -> float | None:
    """Return the relative change of a volume; None where it was too small to have one."""
    return None if prior_mm3 < TINY_MM3 else (volume_mm3 - prior_mm3) / prior_mm3


def lesion_fraction(change: LesionChange) -> float | None:
    """Return the relative change of one lesion; None of one that was tiny, that is gone, or whose change is not certain."""
    if change.possible or change.volume_mm3 <= 0:
        return None
    return fractional_change(change.volume_mm3, change.prior_volume_mm3)


def total_change(record: ComparisonRecord) -> float | None:
    """Return the relative change of the total volume; None where it can't be told."""
    if not record.is_compared or record.comparability.grade == "C":
        return None
    return fractional_change(record.volume_mm3, record.prior_volume_mm3)


def volume_sentence(record: ComparisonRecord) -> str:
    """Return the total volume then and now, and how far its change is beyond what two scans of one brain differ by."""
    if not record.is_compared:
        return ""
    said = f"{volume_text(record.prior_volume_mm3)} on {since(record)}, {volume_text(record.volume_mm3)} now"
    return f"Total lesion volume {said}{_judged(record)}."


def prior_volume_sentence(record: ComparisonRecord) -> str:
    """Return the total volume of the prior and the change since, to stand below the volume of now."""
    return f"On {since(record)} {volume_text(record.prior_volume_mm3)}{_judged(record)}."


def _judged(record: ComparisonRecord) -> str:
    """Return the relative change of the total volume and what it is worth, as the end of a sentence."""
    fraction = total_change(record)
    if record.comparability.grade == "C":
        return "; not compared, since the images are of different kinds"
    if fraction is None:
        return ""
    limit = f"{100 * WITHIN_ERROR:.0f} % of the mean of both"
    error = (
        f"within measurement error (below {limit})"
        if record.is_within_error
        else f"beyond measurement error ({limit})"
    )
    return f": {fraction_text(fraction)}, {error}"


def self_grade_sentence(record: ComparisonRecord) -> str:
    """Return how the comparison did on lesions painted into the prior; nothing where that was not tried."""
    trial = record.self_grade
    if trial is None or not record.is_compared:
        return ""
    lesions, were = ("lesion" if trial.painted == 1 else "lesions"), "was" if trial.found == 1 else "were"
    return f"Of {trial.painted} {lesions} painted into this prior {trial.found} {were} found, {trial.false} false."


def kind_text(change: LesionChange) -> str:
    """Return in which way a lesion changed, and whether that is certain: "new", "possibly new"."""
    return f"possibly {change.change}" if change.possible else change.change


def place_text(lesion: LesionChange | UnchangedLesion) -> str:
    """Return region and side; nothing where they are not known."""
    region = REGION_NAMES[lesion.region] if lesion.region else ""
    return ", ".join(filter(None, (region, lesion.laterality)))


def size_text(change: LesionChange) -> str:
    """Return the volume of the whole lesion, mm3, then and now, with the percentage where it has one."""
    now, then = rounded_mm3(change.volume_mm3), rounded_mm3(change.prior_volume_mm3)
    if then <= 0:
        return f"{now:.0f} mm3"
    fraction = lesion_fraction(change)
    percent = "" if fraction is None else f" ({fraction_text(fraction)})"
    return f"{then:.0f} to {now:.0f} mm3{percent}"


def outlined_text(lesion: int | None) -> str:
    """Return the number that the outlines and the report of the current series give a lesion; nothing where they have none."""
    return "" if lesion is None else f"outlined as {lesion}"


def change_line(record: ComparisonRecord, change: LesionChange) -> str:
    """Return one change in one line: number, kind, place, image, size, and what became part of the lesion."""
    lesion = record.lesions[change.number]
    image = record.images.get(change.number)
    parts = [
        place_text(change),
        f"image {image}" if image is not None else "",
        size_text(change),
        outlined_text(change.lesion),
        lesion.comment,
    ]
    return f"{lesion.identifier} {kind_text(change)}: {', '.join(filter(None, parts))}"


def unchanged_line(tracked: TrackedLesion, lesion: UnchangedLesion) -> str:
    """Return one unchanged lesion in one line: number, place, size then and now."""
    now, then = rounded_mm3(lesion.volume_mm3), rounded_mm3(lesion.prior_volume_mm3)
    parts = [
        place_text(lesion),
        f"{then:.0f} and {now:.0f} mm3",
        outlined_text(lesion.lesion),
        tracked.comment,
    ]
    return f"{tracked.identifier} unchanged: {', '.join(filter(None, parts))}"


def change_lines(record: ComparisonRecord) -> list[str]:
    """Return a line for each change, in the order of the record, and what the words in them mean."""
    lines = [change_line(record, one) for one in record.changes]
    if any(one.possible for one in record.changes):
        lines.append(POSSIBLE)
    if any(item.identifier.startswith("L") for item in record.lesions.values()):
        lines.append(TRACKED)
    return lines


def new_in(record: ComparisonRecord, regions: Iterable[Region | None]) -> int:
    """Return how many lesions of some regions are certainly new."""
    wanted = set(regions)
    return sum(one.change == "new" and not one.possible and one.region in wanted for one in record.changes)


def warning_sentences(record: ComparisonRecord) -> list[str]:
    """Return the warnings of a comparison as sentences."""
    return [f"{text[:1].upper()}{text[1:].rstrip('.')}." for text in record.warnings if text]
