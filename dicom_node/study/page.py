"""The page of a study, drawn: A4, one side, the result first.

Blocks follow one another from the top; each returns its lower edge. What was found comes first and large, by what it was found
last and small. Blocks that have nothing to say take no room.
"""

from __future__ import annotations

from typing import Final

from PIL import Image

from dicom_node.results import change_wording
from dicom_node.results.colours import RgbArray
from dicom_node.results.differential import QUESTION
from dicom_node.results.dissemination import REGION_NAMES, has_regions
from dicom_node.results.findings_record import FindingPicture
from dicom_node.results.percentile import percentile_sentence
from dicom_node.results.plausibility import noun_of
from dicom_node.results.provenance import DISCLAIMER
from dicom_node.results.wording import counting_sentence, probability_text, volume_text
from dicom_node.study import change, sentences
from dicom_node.study.canvas import (
    ACCENT,
    AMBER,
    GREY,
    PALE,
    PALE_AMBER,
    Canvas,
    Column,
    Style,
    can_show,
)
from dicom_node.study.change import compared, told_change
from dicom_node.study.content import Part, StudyContent
from dicom_node.study.page_change import (
    PAIRS_A_ROW,
    draw_acquisitions,
    draw_acquisitions_flat,
    draw_change,
    shown_pictures,
)
from pipelines.types import Lesion

WIDTH, HEIGHT = 1240, 1754
"""A4 at 150 pixels an inch."""
LEFT, RIGHT = 72, 1168
PICTURES: Final = 4
GAP: Final = 20
PICTURE_PX: Final = (RIGHT - LEFT - (PICTURES - 1) * GAP) // PICTURES
SPLIT: Final = 700
"""Left edge of the right column."""
WIDE: Final = 720
"""Width of the optic nerves where nothing stands beside them."""
SMALL_NERVE_PX: Final = 170
"""Side of the picture of a nerve where changes take two rows of pictures."""
MOST_QUALITY_LINES: Final = 7

NAME: Final = Style(34, bold=True)
LABEL: Final = Style(15, ACCENT, bold=True)
FACTS: Final = Style(19, GREY)
RESULTS: Final = tuple(Style(size, bold=True) for size in range(32, 24, -1))
"""Of the first line of the result: the largest in which it is one line."""
LINE: Final = Style(22)
HEADING: Final = Style(20, ACCENT, bold=True)
BODY: Final = Style(19)
REMARK: Final = Style(17, GREY)
CAPTION: Final = Style(18, bold=True)
FINE: Final = Style(15, GREY)


def draw_page(content: StudyContent) -> RgbArray:
    """Return the page as RGB, shape (1754, 1240, 3)."""
    canvas = Canvas(WIDTH, HEIGHT)
    bottom = _provenance(canvas, content)
    top = _header(canvas, content)
    top = _headline(canvas, content, top + 26)
    below = draw_change(canvas, content, LEFT, RIGHT, top + 24)
    top = below if compared(content) is not None else top
    if _has_lesion_pictures(content):
        top = _pictures(canvas, content, top + 30)
    top = _columns(canvas, content, top + 28)
    _notes(canvas, content, top + 26, bottom)
    return canvas.pixels


def _header(canvas: Canvas, content: StudyContent) -> int:
    source = content.source
    name = _name(str(source.get("PatientName") or "")) or "Name not given"
    if not can_show(name):
        name = "Name in the header of this image"
    canvas.text(LEFT, 56, "STUDY SUMMARY", LABEL)
    canvas.text(LEFT, 76, name, NAME, width=760, most_lines=1)
    width = 600 if told_change(content) is not None else 760
    below = canvas.text(LEFT, 124, "  ·  ".join(_patient_facts(content)), FACTS, width, most_lines=1)
    pill = "RESEARCH USE ONLY"
    width = round(canvas.width_of(pill, Style(17, AMBER, bold=True)))
    canvas.box(RIGHT - width - 28, 54, RIGHT, 54 + 34, PALE_AMBER, radius=17)
    canvas.text(RIGHT - width - 14, 60, pill, Style(17, AMBER, bold=True))
    canvas.text_right(RIGHT, 100, _day(str(source.get("StudyDate") or "")), Style(22, bold=True))
    accession = str(source.get("AccessionNumber") or "")
    facts = [
        *_prior_facts(content),
        *([f"Accession {accession}"] if accession and can_show(accession) else []),
    ]
    canvas.text_right(RIGHT, 128, "  ·  ".join(facts), Style(16, GREY))
    return canvas.rule(LEFT, below + 14, RIGHT, ACCENT, 3)


def _headline(canvas: Canvas, content: StudyContent, top: int) -> int:
    first, *others = sentences.headline(content)
    width = RIGHT - LEFT - 56
    style = next((one for one in RESULTS if canvas.width_of(first, one) <= width), RESULTS[-1])
    height = 20 + len(canvas.lines_of(first, style, width)) * style.line_px + 6
    height += sum(len(canvas.lines_of(text, LINE, width)) for text in others) * LINE.line_px + 20
    canvas.box(LEFT, top, RIGHT, top + height, PALE)
    canvas.box(LEFT, top, LEFT + 6, top + height, ACCENT, radius=2)
    at = canvas.text(LEFT + 30, top + 18, first, style, width) + 6
    for text in others:
        at = canvas.text(LEFT + 30, at, text, LINE, width)
    return top + height


def _pictures(canvas: Canvas, content: StudyContent, top: int) -> int:
    """Draw the lesions in one row, each with its number, where it lies and how large it is."""
    part = content.flair
    shown = [item for item in part.pictures if item.lesion is not None][:PICTURES] if part else []
    if part is None or not shown:
        return top - 30
    lesions = {lesion.id: lesion for lesion in part.findings.lesions}
    bottom = top
    for number, item in enumerate(shown):
        left = LEFT + number * (PICTURE_PX + GAP)
        _picture(canvas, part, item, left, top, PICTURE_PX)
        lesion = lesions.get(item.lesion or 0)
        at = canvas.text(left, top + PICTURE_PX + 8, f"{noun_of(part.findings)} {item.lesion}", CAPTION)
        if lesion is not None:
            if place := _place(lesion):
                at = canvas.text(left, at, place, REMARK, PICTURE_PX, most_lines=2)
            size = [
                volume_text(lesion.volume_mm3),
                f"{lesion.long_axis_mm:.0f} mm" if lesion.long_axis_mm else "",
            ]
            at = canvas.text(left, at, ", ".join(filter(None, size)), REMARK, PICTURE_PX)
            # The probability is that of a lesion of demyelination.
            sure = f", probability {probability_text(lesion.probability)}"
            said = f"image {item.image_number}{'' if part.findings.not_typical else sure}"
            at = canvas.text(left, at, said, REMARK, PICTURE_PX, most_lines=1)
        bottom = max(bottom, at)
    return bottom


def _has_lesion_pictures(content: StudyContent) -> bool:
    """Tell whether there is room for pictures of the lesions: not beside those of optic nerves and of changes."""
    record = compared(content)
    pairs = len(shown_pictures(record)) if record is not None else 0
    has_nerves = content.fatsat is not None and content.fatsat.was_analysed
    return pairs == 0 or (pairs <= PAIRS_A_ROW and not has_nerves)


def _columns(canvas: Canvas, content: StudyContent, top: int) -> int:
    """Draw the regions at the left and the optic nerves at the right."""
    at_left = at_right = top
    has_nerves = content.fatsat is not None and content.fatsat.was_analysed
    if content.flair is not None and content.flair.was_analysed:
        at_left = _regions(canvas, content, content.flair, top)
        if has_nerves:
            at_left = _differential(canvas, content, LEFT, SPLIT - 60, at_left + 22)
        else:
            at_right = _differential(canvas, content, SPLIT, RIGHT, top)
            below = at_right if at_right == top else at_right + 22
            at_right = draw_acquisitions(canvas, content, SPLIT, RIGHT, below)
    if content.fatsat is not None and has_nerves:
        left, right = (SPLIT, RIGHT) if at_left > top else (LEFT, LEFT + WIDE)
        at_right = _nerves(canvas, content, content.fatsat, left, right, top)
    return max(at_left, at_right)


def _regions(canvas: Canvas, content: StudyContent, part: Part, top: int) -> int:
    right = SPLIT - 60
    known = has_regions(part.findings)
    top = _heading(canvas, LEFT, top, right, "Lesions by region" if known else f"{noun_of(part.findings)}s")
    new = change.new_by_region(content, part.findings)
    rows = sentences.region_rows(part.findings)
    columns = [
        Column("Region" if known else "", LEFT, 206 if new else 240),
        Column("" if part.findings.not_typical else "Lesions", LEFT + 206, 128 if new else 160, right=True),
        Column("Volume", LEFT + 396, 92 if new else 60, right=True),
        Column("Longest", LEFT + 456, right - LEFT - 456, right=True),
    ]
    if new:
        columns.insert(2, Column("New", LEFT + 336, 52, right=True))
        rows = change.with_new(rows, new)
    at = canvas.table(top, columns, rows, BODY, last_bold=True) + 6
    record = compared(content)
    remarks = [
        *sentences.region_remarks(part.findings),
        sentences.volume_line(part.findings),
        percentile_sentence(part.findings),
        change_wording.prior_volume_sentence(record) if record is not None else "",
    ]
    for text in remarks:
        if text:
            at = canvas.text(LEFT, at, text, REMARK, right - LEFT)
    return at


def _differential(canvas: Canvas, content: StudyContent, left: int, right: int, top: int) -> int:
    line = sentences.differential(content)
    if not line:
        return top
    top = _heading(canvas, left, top, right, QUESTION)
    said = line.removeprefix(f"{QUESTION}: ")
    return canvas.text(left, top, said[:1].upper() + said[1:], BODY, right - left)


def _nerves(canvas: Canvas, content: StudyContent, part: Part, left: int, right: int, top: int) -> int:
    top = _heading(canvas, left, top, right, "Optic nerves")
    columns = (
        Column("Side", left, 66),
        Column("Rating", left + 66, 140),
        Column("Probability", right - 272, 180, right=True),
        Column("Seen", right - 82, 82, right=True),
    )
    at = canvas.table(top, columns, sentences.nerve_rows(part.findings.sites), BODY) + 6
    for text in filter(None, (sentences.nerve_count_line(content), *sentences.nerve_remarks(content))):
        at = canvas.text(left, at, text, REMARK, right - left, most_lines=2)
    pictures = [item for item in part.pictures if item.laterality is not None][:2]
    record = compared(content)
    has_pairs = record is not None and len(shown_pictures(record)) > PAIRS_A_ROW
    size = SMALL_NERVE_PX if has_pairs else (right - left - GAP) // 2
    for number, item in enumerate(pictures):
        at_left = left + number * (size + GAP)
        _picture(canvas, part, item, at_left, at + 10, size)
        said = f"{str(item.laterality).capitalize()} nerve, image {item.image_number}"
        canvas.text(at_left, at + size + 14, said, REMARK)
    return at + size + 14 + REMARK.line_px if pictures else at


def _notes(canvas: Canvas, content: StudyContent, top: int, bottom: int) -> int:
    """Draw what limits the result, as far as there is room above the provenance; the text report has all of it."""
    limits = sentences.limits_lines(content)
    quality = sentences.quality_lines(content)[:MOST_QUALITY_LINES]
    blocks = [
        ("Not examined", [" ".join(limits)] if compared(content) is not None else limits),
        ("Images and their quality", quality),
    ]
    for heading, lines in blocks:
        if not lines or top + 60 > bottom:
            continue
        top = _heading(canvas, LEFT, top, RIGHT, heading)
        if lines is quality and content.fatsat is not None and content.fatsat.was_analysed:
            top = draw_acquisitions_flat(canvas, content, LEFT, RIGHT, top, bottom)
        for text in lines:
            room = (bottom - top) // BODY.line_px
            if room < 1:
                break
            top = canvas.text(LEFT, top, text, BODY, RIGHT - LEFT, most_lines=min(3, room))
        top += 18
    return top


def _provenance(canvas: Canvas, content: StudyContent) -> int:
    """Draw at the foot by what the page was made, and return the upper edge."""
    counting = counting_sentence(content.flair.findings) if content.flair is not None else ""
    lines = [DISCLAIMER, *sentences.provenance_lines(content), counting]
    wrapped = [line for text in lines if text for line in canvas.lines_of(text, FINE, RIGHT - LEFT)]
    top = HEIGHT - 48 - len(wrapped) * FINE.line_px
    canvas.rule(LEFT, top - 12, RIGHT)
    at = top
    for line in wrapped:
        at = canvas.text(LEFT, at, line, FINE)
    return top - 24


def _heading(canvas: Canvas, left: int, top: int, right: int, text: str) -> int:
    return canvas.text(left, top, text, HEADING, right - left) + 6


def _picture(canvas: Canvas, part: Part, item: FindingPicture, left: int, top: int, size: int) -> None:
    with Image.open(part.folder / item.file) as picture:
        canvas.place(picture.convert("RGB"), left, top, size)
    canvas.side_letters(item.sides, left, top, size)


def _place(lesion: Lesion) -> str:
    region = REGION_NAMES[lesion.region] if lesion.region else ""
    also = ", ".join(REGION_NAMES[item] for item in lesion.also_reaches)
    parts = [
        region,
        lesion.laterality or "",
        f"also {also}" if also else "",
        "borderline" if lesion.borderline else "",
    ]
    return ", ".join(filter(None, parts))


def _patient_facts(content: StudyContent) -> list[str]:
    source, age = content.source, content.age_years
    patient_id = str(source.get("PatientID") or "")
    sex = {"M": "male", "F": "female", "O": "other"}.get(str(source.get("PatientSex") or ""), "")
    born = _day(str(source.get("PatientBirthDate") or ""))
    facts = [
        f"ID {patient_id}" if patient_id and can_show(patient_id) else "",
        f"born {born}" if born else "",
        f"{int(age)} years" if age is not None else "age not known",
        sex,
    ]
    return [fact for fact in facts if fact]


def _prior_facts(content: StudyContent) -> list[str]:
    record = told_change(content)
    if record is None or record.prior_day is None:
        return []
    days = f", {record.days} days before" if record.days is not None else ""
    return [f"Prior {record.prior_day.isoformat()}{days}", f"Comparability {record.comparability.grade}"]


def _name(name: str) -> str:
    """Return family and given name of the alphabetic group of a PN (PS3.5 6.2.1)."""
    family, _, rest = name.split("=", maxsplit=1)[0].partition("^")
    given = rest.split("^", maxsplit=1)[0]
    return ", ".join(part.strip() for part in (family, given) if part.strip())


def _day(value: str) -> str:
    digits = value.replace("-", "").replace(".", "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if digits.isdigit() and len(digits) == 8 else value
