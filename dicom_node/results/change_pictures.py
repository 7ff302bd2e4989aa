"""Pictures of changes in pairs: the prior, resampled, at the left, the current image at the right, both of one place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat
from scipy.ndimage import binary_dilation

from dicom_node.results import change_wording
from dicom_node.results.change_segmentation import COLOURS, kind_of
from dicom_node.results.colours import Rgb, RgbArray, grey, window_of
from dicom_node.results.comparison_record import ChangePicture, ComparisonRecord
from dicom_node.results.context import ResultContext
from dicom_node.results.finding_marks import point_mark
from dicom_node.results.finding_pictures import enlarged, square_around
from dicom_node.results.lettering import BLACK, draw_text, text_width
from dicom_node.results.margin import AMBER, LETTER_SIZE, TEXT, Margin, Remark, side_letters, with_margin
from dicom_node.results.provenance import DISCLAIMER, finish
from dicom_node.results.secondary_capture import Picture, add_pixels, add_source, unplaced
from dicom_node.results.source import Slice, slice_of
from pipelines.comparison import Comparison, LesionChange
from pipelines.types import BoolArray, FloatArray, ModelCard, Volume

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE: Final = "change-picture"
FIELD_MM: Final = 90.0
PAGE_FIELD_MM: Final = 72.0
"""Sides of the square that is shown, in a picture for the PACS and in the smaller one for the page."""
PANEL_PX: Final = 512
PAGE_PX: Final = 420
"""Sides of a square in a picture for the PACS, and in one for the page."""
LINE_PX: Final = 2
PAGE_LINE_PX: Final = 4
BORDER: Final = 24
"""Black around a square, with the letters of its sides."""
TITLE_ROOM: Final = 26
BRIGHTEST: Final = 1.25
"""White over the brightest of the usual window: lesions keep their texture."""
CORNER_ROOM: Final = 0.035
CORNER_LENGTH: Final = 0.045
"""Distance of the corners from the change, and their length, as shares of a square's side."""
MOST_PICTURES: Final = 24
MOST_ON_PAGE: Final = 4


@dataclass(frozen=True)
class Pair:
    """One change in both images.

    Parameters
    ----------
    change : LesionChange
    place : Slice
        Of the current series, where most of the change is.
    mask : bool array, shape (j, i)
        The change on that slice.
    prior, current : uint8 array, shape (j, i, 3)
        The slice in grey.
    spacing_mm : (float, float)
        Of rows and of columns.
    """

    change: LesionChange
    place: Slice
    mask: BoolArray
    prior: RgbArray
    current: RgbArray
    spacing_mm: tuple[float, float]

    @property
    def colour(self) -> Rgb:
        """Colour of its kind of change."""
        return COLOURS[kind_of(self.change)]

    def squares(self, side_px: int, field_mm: float, line_px: int) -> tuple[RgbArray, RgbArray]:
        """Return prior and current as squares, with corners around the place, and a line where the lesion is larger."""
        box = square_around(self.mask, field_mm, self.spacing_mm)
        inside = _inside(self.mask, box, side_px)
        is_in_prior = self.change.change in ("smaller", "resolved")
        return (
            _drawn(self.prior, box, inside, self.colour, line_px, outlined=is_in_prior),
            _drawn(self.current, box, inside, self.colour, line_px, outlined=not is_in_prior),
        )


def change_pairs(
    comparison: Comparison,
    changes: Sequence[LesionChange],
    series: LoadedSeries,
    sources: list[Dataset],
) -> list[Pair]:
    """Return a pair for each change that has a place in the current image; none without a resampled prior."""
    volume, prior = series.volume, comparison.prior_on_current
    if volume is None or prior is None or prior.shape != volume.array.shape:
        return []
    windows = [_window(array, prior > 0) for array in (prior, volume.array)]
    pairs = []
    for change in changes[:MOST_PICTURES]:
        mask, k = _largest_slice(comparison, change, volume)
        if mask is None:
            continue
        planes = [
            grey(array[k], window) for array, window in zip((prior, volume.array), windows, strict=True)
        ]
        place = slice_of(series, sources, k)
        pairs.append(Pair(change, place, mask, planes[0], planes[1], volume.spacing_mm[1:]))
    return pairs


def write_page_pictures(pairs: Sequence[Pair], out: Path) -> list[ChangePicture]:
    """Write the pairs of the page as PNG into a folder: those of the first changes."""
    written = []
    for pair in pairs[:MOST_ON_PAGE]:
        name = f"change-{pair.change.number}.png"
        Image.fromarray(np.concatenate(pair.squares(PAGE_PX, PAGE_FIELD_MM, PAGE_LINE_PX), axis=1)).save(
            out / name
        )
        sides = side_letters(pair.place.orientation)
        written.append(ChangePicture(name, pair.change.number, pair.place.image_number, sides))
    return written


def build_change_pictures(
    pairs: Sequence[Pair],
    record: ComparisonRecord,
    models: Sequence[ModelCard],
    context: ResultContext,
) -> Iterator[tuple[str, Dataset]]:
    """Yield (file name, image) for each pair: one RGB Secondary Capture (PS3.3 A.8.1) with both squares.

    It has no place in the patient, since one image of two squares would put one of them where it is not.
    """
    for number, pair in enumerate(pairs, start=1):
        comments = f"RESEARCH. {change_wording.change_line(record, pair.change)}. {change_wording.RESAMPLED} {DISCLAIMER}"
        derivation = f"Part of the image of {change_wording.since(record)}, resampled, and of the current one, side by side."
        frame = framed(pair, record)
        ds = unplaced(Picture(frame, FIELD_MM / PANEL_PX, comments, derivation))
        finish(ds, source=pair.place.source, context=context, models=models, role=ROLE, index=(number,))
        ds.InstanceNumber = number
        ds.PatientOrientation = ""
        ds.PixelSpacing = [DSfloat(FIELD_MM / PANEL_PX, auto_format=True)] * 2
        add_source(ds, pair.place, same_places=False)
        add_pixels(ds, frame)
        yield f"change-{number:02d}.dcm", ds


def framed(pair: Pair, record: ComparisonRecord) -> RgbArray:
    """Return both squares in one frame, with titles above, side letters around, and what has changed below."""
    change = pair.change
    day = record.day.isoformat() if record.day else ""
    panels = [
        _panel(square, title, side_letters(pair.place.orientation))
        for square, title in zip(
            pair.squares(PANEL_PX, FIELD_MM, LINE_PX),
            (f"PRIOR  {change_wording.since(record)}", f"CURRENT  {day}".rstrip()),
            strict=True,
        )
    ]
    lesion = record.lesions[change.number]
    remarks = [
        Remark(f"{lesion.identifier} {change_wording.kind_text(change)}", patch=pair.colour),
        Remark(change_wording.place_text(change)),
        Remark(change_wording.size_text(change)),
        Remark(f"image {pair.place.image_number}"),
        Remark(f"comparability {record.comparability.grade}"),
        Remark("RESEARCH USE", AMBER),
        Remark(change_wording.RESAMPLED, starts_line=True),
    ]
    shown = tuple(remark for remark in remarks if remark.text)
    return with_margin(np.concatenate(panels, axis=1), Margin(shown, least_lines=2))


def _panel(square: RgbArray, title: str, sides: tuple[str, str, str, str]) -> RgbArray:
    """Return a square in a black border with its title above and the letters of its sides around it."""
    side = square.shape[0]
    image = Image.new("RGB", (side + 2 * BORDER, side + 2 * BORDER + TITLE_ROOM), BLACK)
    image.paste(Image.fromarray(square), (BORDER, BORDER + TITLE_ROOM))
    pen = ImageDraw.Draw(image)
    draw_text(pen, (BORDER, 8), title, LETTER_SIZE, TEXT)
    middle, half = BORDER + side / 2, LETTER_SIZE / 2
    left, right, top, bottom = sides
    for text, x, y in (
        (left, BORDER / 2, TITLE_ROOM + middle - half),
        (right, BORDER * 1.5 + side, TITLE_ROOM + middle - half),
        (top, middle, TITLE_ROOM + 1),
        (bottom, middle, TITLE_ROOM + BORDER + side + 1),
    ):
        draw_text(pen, (x - text_width(text, LETTER_SIZE) / 2 - 2, y), text, LETTER_SIZE, TEXT)
    return np.asarray(image)


def _window(array: FloatArray, shared: BoolArray) -> tuple[float, float]:
    """Return black and white of an image, by the part that both images show, so that both look alike."""
    low, high = window_of(np.where(shared, array, array.min()))
    return low, low + BRIGHTEST * (high - low)


def _largest_slice(
    comparison: Comparison, change: LesionChange, volume: Volume
) -> tuple[BoolArray | None, int]:
    """Return a change on the slice k with most of it; of one without voxels, the voxel at its centre."""
    if comparison.labels is not None:
        first, last = change.slices_k
        own = comparison.labels[first : last + 1] == change.number
        if own.any():
            k = int(own.sum(axis=(1, 2)).argmax())
            return own[k], first + k
    mark = point_mark(change.centre_lps, volume)
    if mark is None:
        return None, 0
    mask = np.zeros(volume.array.shape[1:], dtype=bool)
    mask[mark.j, mark.i] = True
    return mask, mark.k


def _inside(mask: BoolArray, box: tuple[float, float, float, float], side_px: int) -> BoolArray:
    """Return a mask on the pixels of a square, smooth."""
    levels = np.repeat(255 * mask[..., None].astype(np.uint8), 3, axis=-1)
    inside = enlarged(levels, box, Image.Resampling.BILINEAR, side_px)[..., 0] >= 128
    return np.asarray(inside)


def _drawn(
    plane: RgbArray,
    box: tuple[float, float, float, float],
    inside: BoolArray,
    colour: Rgb,
    line_px: int,
    *,
    outlined: bool,
) -> RgbArray:
    """Return a part of a slice as a square, with corners around the change and, where wanted, a thin line."""
    square = enlarged(plane, box, Image.Resampling.BICUBIC, inside.shape[0])
    if not inside.any():
        return square
    if outlined:
        square[binary_dilation(inside, iterations=line_px) & ~inside] = colour
    image = Image.fromarray(square)
    _draw_corners(ImageDraw.Draw(image), inside, colour, line_px)
    return np.asarray(image)


def _draw_corners(pen: ImageDraw.ImageDraw, inside: BoolArray, colour: Rgb, line_px: int) -> None:
    side = inside.shape[0]
    room, length = round(CORNER_ROOM * side), round(CORNER_LENGTH * side)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    top, bottom = max(1, rows[0] - room), min(side - 2, rows[-1] + room)
    left, right = max(1, columns[0] - room), min(side - 2, columns[-1] + room)
    for x, y, way_x, way_y in (
        (left, top, 1, 1),
        (right, top, -1, 1),
        (left, bottom, 1, -1),
        (right, bottom, -1, -1),
    ):
        pen.line((x, y, x + way_x * length, y), fill=colour, width=line_px)
        pen.line((x, y, x, y + way_y * length), fill=colour, width=line_px)
