"""Outlines of the findings on every slice, each lesion's number beside it: for a PACS that shows no SEG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from scipy import ndimage

from dicom_node.errors import ResultError
from dicom_node.results.colours import (
    NO_REGION,
    REGION_COLOURS,
    Rgb,
    RgbArray,
    as_rgb,
    grey_levels,
    segment_colour,
    window_of,
)
from dicom_node.results.context import ResultContext
from dicom_node.results.dissemination import REGION_NAMES
from dicom_node.results.lesion_voxels import LabelArray, lesion_voxels, slices_of
from dicom_node.results.lettering import draw_text, text_width
from dicom_node.results.margin import (
    AMBER,
    Margin,
    Remark,
    edge_letters,
    lines_needed,
    with_margin,
)
from dicom_node.results.number_labels import Named, NumberLabel, place_numbers
from dicom_node.results.outline_slices import chosen_slices, grid_and_step, most_pictures
from dicom_node.results.picture_grid import PictureGrid, thin_outline
from dicom_node.results.plausibility import noun_of
from dicom_node.results.provenance import DISCLAIMER, segmenting_model, training_origin
from dicom_node.results.secondary_capture import CaptureSeries, Picture
from dicom_node.results.segmentation import segments_shown, tracking_id
from dicom_node.results.source import slice_of
from pipelines.types import BoolArray, Findings, FloatArray, Region, Segment, Volume

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "outline"
NUMBER_SIZE: Final = 13
NUMBERS: Final = "Numbers: {}s of the report"


@dataclass(frozen=True)
class Outlined:
    """Part of the outlines that is drawn in one colour.

    Parameters
    ----------
    name : str
        As the margin calls it.
    colour : three integers in 0..255
    lesions : tuple of int
        IDs of the lesions that it is.
    mask : bool array, shape (k, j, i), or None
        All of it; None where the lesions are known.
    """

    name: str
    colour: Rgb
    lesions: tuple[int, ...] = ()
    mask: BoolArray | None = None

    def pixels(self, plane: LabelArray, k: int) -> BoolArray:
        """Return its pixels on slice k; ``plane`` has the lesions' numbers there."""
        if self.mask is not None:
            return np.asarray(self.mask[k])
        belongs = np.zeros(max(self.lesions) + 1, dtype=bool)
        belongs[list(self.lesions)] = True
        return np.asarray(belongs[np.minimum(plane, belongs.size - 1)] & (plane < belongs.size))


@dataclass(frozen=True)
class _Drawing:
    """Drawing that all pictures of one series share."""

    grid: PictureGrid
    array: FloatArray
    window: tuple[float, float]
    parts: tuple[Outlined, ...]
    shown: BoolArray
    numbers: LabelArray
    colours: Mapping[int, Rgb]


def build_outlines(
    findings: Findings, series: LoadedSeries, sources: list[Dataset], context: ResultContext
) -> Iterator[tuple[str, Dataset]]:
    """Yield (file name, image) for each slice, one at a time; of a series with many slices for every second or third.

    Raises
    ------
    ResultError
        There is no volume to draw on, or a mask is not on its grid.
    """
    volume = series.volume
    if volume is None:
        raise ResultError("outlines need the volume that they are drawn on")
    segments = segments_shown(findings)
    for segment in segments:
        if segment.mask.shape != volume.array.shape:
            raise ResultError(
                f"segment {segment.name!r} has shape {segment.mask.shape}, the source {volume.array.shape}"
            )
    places = [slice_of(series, sources, k) for k in range(len(volume.array))]
    drawing, step = _drawing(findings, volume, segments, places[0].spacing)
    shown = chosen_slices(
        len(places), step, _slices_of_lesions(findings, drawing.numbers), most_pictures(drawing.grid)
    )
    last = max(place.image_number for place in places)
    margin = _margin(findings, drawing.parts, context, last, edge_letters(places[0].orientation))
    least_lines = lines_needed(margin, drawing.grid.columns)
    model = segmenting_model(findings)
    captures = CaptureSeries(context, ROLE, [model] if model else [])
    comments, derivation = _comments(findings, step), _derivation(drawing.grid)
    for k in shown:
        place = places[k]
        margin = _margin(
            findings, drawing.parts, context, place.image_number, edge_letters(place.orientation), least_lines
        )
        pixels = with_margin(_drawn(drawing, k), margin)
        picture = Picture(pixels, drawing.grid.spacing_mm, comments, derivation)
        ds = captures.image(picture, place, (k,))
        yield f"outline-{k + 1:04d}.dcm", ds


def outlined(findings: Findings, segments: Sequence[Segment]) -> tuple[Outlined, ...]:
    """Return what is drawn, and in which colours: lesions by their regions where these are known, else the segments."""
    if not any(item.region for item in findings.lesions) or any(item.region for item in segments):
        return tuple(
            Outlined(
                REGION_NAMES[item.region] if item.region else tracking_id(item),
                segment_colour(item),
                mask=item.mask,
            )
            for item in segments
        )
    of_regions = {
        region: tuple(item.id for item in findings.lesions if item.region == region)
        for region in (*REGION_COLOURS, None)
    }
    return tuple(
        Outlined(REGION_NAMES[region] if region else "region not known", _colour(region), lesions)
        for region, lesions in of_regions.items()
        if lesions
    )


def _colour(region: Region | None) -> Rgb:
    return NO_REGION if region is None else REGION_COLOURS[region]


def _drawing(
    findings: Findings, volume: Volume, segments: Sequence[Segment], spacing_ji_mm: tuple[float, float]
) -> tuple[_Drawing, int]:
    k, j, i = volume.array.shape
    grid, step = grid_and_step((k, j, i), spacing_ji_mm)
    numbers = lesion_voxels(findings, volume)
    parts = outlined(findings, segments)
    colours = {item.id: _colour(item.region) for item in findings.lesions}
    shown = np.logical_or.reduce([slices_of(item.mask) for item in segments])
    return _Drawing(grid, volume.array, window_of(volume.array), parts, shown, numbers, colours), step


def _slices_of_lesions(findings: Findings, numbers: LabelArray) -> list[list[int]]:
    """Return the slices k of each lesion, the largest lesion first, of each the one with most of it first."""
    areas: dict[int, dict[int, int]] = {}
    first = min((item.slices_k[0] for item in findings.lesions), default=0)
    last = max((item.slices_k[1] for item in findings.lesions), default=-1)
    for k in range(first, last + 1):
        for number, count in enumerate(np.bincount(numbers[k].ravel())):
            if count:
                areas.setdefault(number, {})[k] = int(count)
    largest = sorted(findings.lesions, key=lambda item: -item.volume_mm3)
    own = [areas.get(item.id, {}) for item in largest]
    return [sorted(slices, key=lambda k: (-slices[k], k)) for slices in own]


def _drawn(drawing: _Drawing, k: int) -> RgbArray:
    """Return slice k in grey with the outlines and numbers on it."""
    grid = drawing.grid
    picture = as_rgb(grid.grey(grey_levels(drawing.array[k], drawing.window)))
    taken = np.zeros((grid.rows, grid.columns), dtype=bool)
    plane = drawing.numbers[k]
    for part in drawing.parts if drawing.shown[k] else ():
        inside = part.pixels(plane, k)
        if inside.any():
            mask = grid.mask(inside)
            line = thin_outline(mask)
            picture[line] = part.colour
            taken |= mask
            taken |= line
    named = list(_named(drawing, k))
    if not named:
        return picture
    canvas = Image.fromarray(picture)
    pen = ImageDraw.Draw(canvas)
    for label in place_numbers(named, taken):
        _draw_number(pen, label, drawing.colours[int(label.named.text)])
    return np.asarray(canvas)


def _named(drawing: _Drawing, k: int) -> Iterator[Named]:
    """Yield each lesion of a slice with the box around its largest piece there, in pixels of the picture."""
    plane = drawing.numbers[k]
    if not drawing.shown[k]:
        return
    for number, box in enumerate(ndimage.find_objects(plane), start=1):
        if box is None:
            continue
        pieces, count = ndimage.label(plane[box] == number, structure=np.ones((3, 3)))
        largest = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])) if count > 1 else 1
        rows, columns = (np.flatnonzero((pieces == largest).any(axis=axis)) for axis in (1, 0))
        top, left = drawing.grid.place(box[0].start + rows[0] - 0.5, box[1].start + columns[0] - 0.5)
        bottom, right = drawing.grid.place(box[0].start + rows[-1] + 0.5, box[1].start + columns[-1] + 0.5)
        text = str(number)
        width = int(np.ceil(text_width(text, NUMBER_SIZE))) + 2
        yield Named(text, top, left, bottom, right, NUMBER_SIZE - 1, width)


def _draw_number(pen: ImageDraw.ImageDraw, label: NumberLabel, colour: Rgb) -> None:
    """Draw a number in its lesion's colour, dark around it; from farther away a line leads to the lesion."""
    named = label.named
    if label.is_far:
        middle = (label.left + named.width / 2, label.top + named.height / 2)
        end = (
            min(max(middle[0], named.left), named.right),
            min(max(middle[1], named.top), named.bottom),
        )
        pen.line((*middle, *end), fill=colour, width=1)
    draw_text(pen, (label.left - 1, label.top - 2), named.text, NUMBER_SIZE, colour, dark_around=True)


def _margin(
    findings: Findings,
    parts: Sequence[Outlined],
    context: ResultContext,
    image_number: int,
    sides: tuple[str, str],
    least_lines: int = 1,
) -> Margin:
    origin = training_origin(segmenting_model(findings))
    remarks = [
        Remark("RESEARCH USE", AMBER),
        Remark(f"{context.title}, image {image_number}"),
        *([Remark(origin, AMBER)] if origin else ()),
        *(Remark(part.name, patch=part.colour, starts_line=not index) for index, part in enumerate(parts)),
        *([Remark(NUMBERS.format(noun_of(findings).lower()))] if findings.lesions else ()),
    ]
    return Margin(tuple(remarks), sides, least_lines=least_lines)


def _comments(findings: Findings, step: int) -> str:
    noun = noun_of(findings).lower()
    shown = "every slice" if step == 1 else f"one slice in {step}, and one of each {noun} that these miss"
    numbered = f" Numbers are those of the {noun}s in the report." if findings.lesions else ""
    return f"RESEARCH. Outlines of the segmentation of the same job, on {shown}.{numbered} {DISCLAIMER}"


def _derivation(grid: PictureGrid) -> str:
    enlarged = "" if grid.is_the_slices else f", on pixels of {grid.spacing_mm:.3f} mm"
    return f"Source image{enlarged}, with a line around each finding and a margin with text below."
