"""Section of the page on what has changed: how many lesions in which way, and up to four of them in both images."""

from __future__ import annotations

from typing import Final

from PIL import Image

from dicom_node.results import change_wording
from dicom_node.results.comparison_record import ChangePicture, ComparisonRecord
from dicom_node.study import change
from dicom_node.study.canvas import ACCENT, AMBER, GREY, Canvas, Column, Style
from dicom_node.study.content import Part, StudyContent

PAIRS: Final = 4
PAIRS_A_ROW: Final = 2
SQUARE_PX: Final = 192
BETWEEN: Final = 4
"""Between the squares of a pair."""
GAP: Final = 24
LABEL: Final = Style(15, GREY)
HEADING: Final = Style(20, ACCENT, bold=True)
REMARK: Final = Style(17, GREY)
CAPTION: Final = Style(18, bold=True)
POSSIBLE: Final = Style(18, AMBER, bold=True)
TABLE: Final = Style(17)
DAY_PX: Final = 120
FLAT_TABLE_PX: Final = 96
"""Height of a table of two rows."""


def shown_pictures(record: ComparisonRecord) -> tuple[ChangePicture, ...]:
    """Return the pictures that the page has room for: the first changes."""
    return record.pictures[:PAIRS]


def draw_change(canvas: Canvas, content: StudyContent, left: int, right: int, top: int) -> int:
    """Draw the section, and return its lower edge; where nothing was compared, nothing."""
    record, part = change.compared(content), content.change
    if record is None or part is None:
        return top
    at = canvas.text(left, top, f"Change since {change_wording.since(record)}", HEADING)
    canvas.text_right(right, top + 3, "  ·  ".join(change.count_cells(record)), REMARK)
    at = _pairs(canvas, part, record, left, right, at + 4)
    remark = f"{change_wording.reasons_sentence(record)} {change.legend(record)}"
    return canvas.text(left, at, remark, REMARK, right - left, most_lines=3)


def draw_acquisitions(canvas: Canvas, content: StudyContent, left: int, right: int, top: int) -> int:
    """Draw both acquisitions as a table with a row for each value, what differs first, and return the lower edge."""
    record = change.compared(content)
    rows = change_wording.acquisition_rows(record, change.MOST_ACQUISITION_ROWS) if record else []
    if record is None or not rows:
        return top
    at = canvas.text(left, top, "Acquisition", HEADING) + 6
    first, day = right - left - 2 * DAY_PX, right - 2 * DAY_PX
    columns = [
        Column("", left, first),
        Column(change_wording.since(record), day, DAY_PX, right=True),
        Column(_now(record), day + DAY_PX, DAY_PX, right=True),
    ]
    return canvas.table(at, columns, rows, TABLE)


def draw_acquisitions_flat(
    canvas: Canvas, content: StudyContent, left: int, right: int, top: int, bottom: int
) -> int:
    """Draw both acquisitions as two rows under the names of their values, where there is room, and return the lower edge."""
    record = change.compared(content)
    rows = change_wording.acquisition_rows(record, change.MOST_ACQUISITION_ROWS) if record else []
    if record is None or not rows or top + FLAT_TABLE_PX > bottom:
        return top
    width = (right - left - DAY_PX) // max(len(rows), change.MOST_ACQUISITION_ROWS)
    columns = [Column("Acquired", left, DAY_PX)]
    columns += [Column(row[0], left + DAY_PX + number * width, width) for number, row in enumerate(rows)]
    cells = [
        (change_wording.since(record), *(row[1] for row in rows)),
        (_now(record), *(row[2] for row in rows)),
    ]
    return canvas.table(top, columns, cells, TABLE) + 6


def _now(record: ComparisonRecord) -> str:
    return record.day.isoformat() if record.day else "now"


def _pairs(canvas: Canvas, part: Part, record: ComparisonRecord, left: int, right: int, top: int) -> int:
    pictures = shown_pictures(record)
    width = (right - left - (PAIRS_A_ROW - 1) * GAP) // PAIRS_A_ROW
    bottom = top
    for number, picture in enumerate(pictures):
        row, column = divmod(number, PAIRS_A_ROW)
        at_left, at_top = left + column * (width + GAP), top + row * (SQUARE_PX + 14)
        if row:
            at_top += LABEL.line_px
        else:
            canvas.text(at_left, at_top, f"Prior {change_wording.since(record)}", LABEL)
            canvas.text(at_left + SQUARE_PX + BETWEEN, at_top, f"Current {_now(record)}", LABEL)
            at_top += LABEL.line_px
        _pair(canvas, part, picture, at_left, at_top)
        _caption(canvas, record, picture, at_left + 2 * SQUARE_PX + BETWEEN + 12, at_left + width, at_top)
        bottom = at_top + SQUARE_PX + 10
    return bottom


def _pair(canvas: Canvas, part: Part, picture: ChangePicture, left: int, top: int) -> None:
    with Image.open(part.folder / picture.file) as opened:
        both = opened.convert("RGB")
    side = both.height
    for number in range(2):
        square = both.crop((number * side, 0, (number + 1) * side, side))
        at = left + number * (SQUARE_PX + BETWEEN)
        canvas.place(square, at, top, SQUARE_PX)
        canvas.side_letters(picture.sides, at, top, SQUARE_PX)


def _caption(
    canvas: Canvas, record: ComparisonRecord, picture: ChangePicture, left: int, right: int, top: int
) -> None:
    told = next((one for one in record.changes if one.number == picture.change), None)
    if told is None:
        return
    width = right - left
    at = canvas.text(left, top - 4, record.lesions[told.number].identifier, CAPTION)
    style = POSSIBLE if told.possible else CAPTION
    at = canvas.text(left, at, change_wording.kind_text(told), style, width) + 4
    size, _, percent = change_wording.size_text(told).partition(" (")
    for text in (change_wording.place_text(told), size, percent.rstrip(")")):
        if text:
            at = canvas.text(left, at, text, REMARK, width, most_lines=3)
    at = canvas.text(left, at, f"image {picture.image_number}", REMARK, width)
    canvas.text(left, at, change_wording.outlined_text(told.lesion), REMARK, width)
