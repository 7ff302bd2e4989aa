"""The page of a study, drawn: A4, one side, the result first.

Blocks follow one another from the top; each returns its lower edge. What was found comes first and large, by what it was found
last and small. Blocks that have nothing to say take no room.
"""

from __future__ import annotations

from typing import Final

from PIL import Image

from dicom_node.results.colours import RgbArray
from dicom_node.results.differential import QUESTION
from dicom_node.results.dissemination import REGION_NAMES, has_regions
from dicom_node.results.findings_record import FindingPicture
from dicom_node.results.provenance import DISCLAIMER
from dicom_node.results.wording import counting_sentence, probability_text, volume_text
from dicom_node.study import sentences
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
from dicom_node.study.content import Part, StudyContent
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
MOST_QUALITY_LINES: Final = 7

NAME: Final = Style(34, bold=True)
LABEL: Final = Style(15, ACCENT, bold=True)
FACTS: Final = Style(19, GREY)
RESULT: Final = Style(32, bold=True)
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
    below = canvas.text(LEFT, 124, "  ·  ".join(_patient_facts(content)), FACTS, width=760, most_lines=1)
    pill = "RESEARCH USE ONLY"
    width = round(canvas.width_of(pill, Style(17, AMBER, bold=True)))
    canvas.box(RIGHT - width - 28, 54, RIGHT, 54 + 34, PALE_AMBER, radius=17)
    canvas.text(RIGHT - width - 14, 60, pill, Style(17, AMBER, bold=True))
    canvas.text_right(RIGHT, 100, _day(str(source.get("StudyDate") or "")), Style(22, bold=True))
    accession = str(source.get("AccessionNumber") or "")
    if accession and can_show(accession):
        canvas.text_right(RIGHT, 128, f"Accession {accession}", Style(16, GREY))
    return canvas.rule(LEFT, below + 14, RIGHT, ACCENT, 3)


def _headline(canvas: Canvas, content: StudyContent, top: int) -> int:
    first, *others = sentences.headline(content)
    width = RIGHT - LEFT - 56
    height = 20 + len(canvas.lines_of(first, RESULT, width)) * RESULT.line_px + 6
    height += sum(len(canvas.lines_of(text, LINE, width)) for text in others) * LINE.line_px + 20
    canvas.box(LEFT, top, RIGHT, top + height, PALE)
    canvas.box(LEFT, top, LEFT + 6, top + height, ACCENT, radius=2)
    at = canvas.text(LEFT + 30, top + 18, first, RESULT, width) + 6
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
        at = canvas.text(left, top + PICTURE_PX + 8, f"Lesion {item.lesion}", CAPTION)
        if lesion is not None:
            if place := _place(lesion):
                at = canvas.text(left, at, place, REMARK, PICTURE_PX, most_lines=2)
            size = [
                volume_text(lesion.volume_mm3),
                f"{lesion.long_axis_mm:.0f} mm" if lesion.long_axis_mm else "",
            ]
            at = canvas.text(left, at, ", ".join(filter(None, size)), REMARK, PICTURE_PX)
            said = f"image {item.image_number}, probability {probability_text(lesion.probability)}"
            at = canvas.text(left, at, said, REMARK, PICTURE_PX, most_lines=1)
        bottom = max(bottom, at)
    return bottom


def _columns(canvas: Canvas, content: StudyContent, top: int) -> int:
    """Draw the regions at the left and the optic nerves at the right."""
    at_left = at_right = top
    has_nerves = content.fatsat is not None and content.fatsat.was_analysed
    if content.flair is not None and content.flair.was_analysed:
        at_left = _regions(canvas, content.flair, top)
        if has_nerves:
            at_left = _differential(canvas, content, LEFT, SPLIT - 60, at_left + 22)
        else:
            at_right = _differential(canvas, content, SPLIT, RIGHT, top)
    if content.fatsat is not None and has_nerves:
        left, right = (SPLIT, RIGHT) if at_left > top else (LEFT, LEFT + WIDE)
        at_right = _nerves(canvas, content, content.fatsat, left, right, top)
    return max(at_left, at_right)


def _regions(canvas: Canvas, part: Part, top: int) -> int:
    right = SPLIT - 60
    known = has_regions(part.findings)
    top = _heading(canvas, LEFT, top, right, "Lesions by region" if known else "Lesions")
    columns = (
        Column("Region" if known else "", LEFT, 240),
        Column("Lesions", LEFT + 236, 130, right=True),
        Column("Volume", LEFT + 366, 90, right=True),
        Column("Longest", LEFT + 456, right - LEFT - 456, right=True),
    )
    at = canvas.table(top, columns, sentences.region_rows(part.findings), BODY, last_bold=True) + 6
    for text in (*sentences.region_remarks(part.findings), sentences.volume_line(part.findings)):
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
    size = (right - left - GAP) // 2
    for number, item in enumerate(pictures):
        at_left = left + number * (size + GAP)
        _picture(canvas, part, item, at_left, at + 10, size)
        said = f"{str(item.laterality).capitalize()} nerve, image {item.image_number}"
        canvas.text(at_left, at + size + 14, said, REMARK)
    return at + size + 14 + REMARK.line_px if pictures else at


def _notes(canvas: Canvas, content: StudyContent, top: int, bottom: int) -> int:
    """Draw what limits the result, as far as there is room above the provenance; the text report has all of it."""
    blocks = [
        ("Not examined", sentences.limits_lines(content)),
        ("Images and their quality", sentences.quality_lines(content)[:MOST_QUALITY_LINES]),
    ]
    for heading, lines in blocks:
        if not lines or top + 60 > bottom:
            continue
        top = _heading(canvas, LEFT, top, RIGHT, heading)
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
    middle, edge = size / 2, 8
    letters = max(14, size // 16)
    for text, x, y, anchor in zip(
        item.sides,
        (left + edge, left + size - edge, left + middle, left + middle),
        (top + middle, top + middle, top + edge, top + size - edge),
        ("lm", "rm", "ma", "md"),
        strict=True,
    ):
        canvas.on_picture(x, y, text, letters, anchor)


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


def _name(name: str) -> str:
    """Return family and given name of the alphabetic group of a PN (PS3.5 6.2.1)."""
    family, _, rest = name.split("=", maxsplit=1)[0].partition("^")
    given = rest.split("^", maxsplit=1)[0]
    return ", ".join(part.strip() for part in (family, given) if part.strip())


def _day(value: str) -> str:
    digits = value.replace("-", "").replace(".", "")
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}" if digits.isdigit() and len(digits) == 8 else value
