"""Pictures of single findings for the page of a study: the source around a lesion or a nerve, with its outline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, center_of_mass, label

from dicom_node.results.colours import RgbArray, grey, segment_colour, window_of
from dicom_node.results.findings_record import FindingPicture
from dicom_node.results.margin import side_letters
from dicom_node.results.source import slice_of, sources_of
from pipelines.types import BoolArray, Findings, Laterality, Lesion, Region, Segment, Volume

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

SIDE_PX: Final = 480
LESION_FIELD_MM: Final = 120.0
NERVE_FIELD_MM: Final = 70.0
"""Side of the square that is shown."""
MOST_LESIONS: Final = 4
LINE_PX: Final = 3
OTHERS_RGB: Final = (28, 32, 38)
"""Colour of what is outlined beside the finding itself: dark, so that it is seen on tissue and on bright lesions."""
OTHERS_PX: Final = 2
BRIGHTEST: Final = 1.25
"""White over the brightest of the usual window: lesions are brighter than nearly everything, and keep their texture."""
REGIONS_SHOWN: Final[tuple[Region | None, ...]] = (
    "periventricular",
    "juxtacortical",
    "infratentorial",
    "deep_white_matter",
    "deep_grey_matter",
    None,
)
"""Regions in the order in which each gives its largest lesion, before any gives its second one."""


@dataclass(frozen=True)
class _View:
    """A slice, the mask of the finding in it, and what else is outlined there."""

    k: int
    mask: BoolArray
    others: BoolArray
    colour: tuple[int, int, int]
    field_mm: float
    lesion: int | None = None
    laterality: Laterality | None = None


def write_finding_pictures(findings: Findings, series: LoadedSeries, out: Path) -> list[FindingPicture]:
    """Write the pictures of findings into a folder: of at most four lesions, and of each side that was rated.

    Returns
    -------
    list of FindingPicture
        In the order in which they are shown; none where there is no volume or nothing was found.
    """
    if series.volume is None:
        return []
    views = [*_lesion_views(findings, series.volume), *_side_views(findings)]
    sources = sources_of(series) if views else []
    low, high = window_of(series.volume.array)
    window = low, low + BRIGHTEST * (high - low)
    written = []
    for view in views:
        place = slice_of(series, sources, view.k)
        image = _drawn(grey(series.volume.array[view.k], window), view, series.volume.spacing_mm[1:])
        name = f"lesion-{view.lesion}" if view.lesion is not None else f"nerve-{view.laterality}"
        Image.fromarray(image).save(out / f"{name}.png")
        written.append(
            FindingPicture(
                file=f"{name}.png",
                image_number=place.image_number,
                sides=side_letters(place.orientation),
                lesion=view.lesion,
                laterality=view.laterality,
            )
        )
    return written


def chosen_lesions(lesions: tuple[Lesion, ...]) -> list[Lesion]:
    """Return the lesions that are shown: the largest of each region in turn, those beyond doubt first."""
    queues = [
        sorted(
            (item for item in lesions if item.region == region),
            key=lambda item: (item.borderline, -item.volume_mm3, item.id),
        )
        for region in REGIONS_SHOWN
    ]
    chosen: list[Lesion] = []
    while any(queues) and len(chosen) < MOST_LESIONS:
        chosen += [queue.pop(0) for queue in queues if queue]
    return sorted(chosen[:MOST_LESIONS], key=lambda item: item.id)


def _lesion_views(findings: Findings, volume: Volume) -> Iterator[_View]:
    everything = np.any([item.mask for item in findings.segments], axis=0) if findings.segments else None
    for lesion in chosen_lesions(findings.lesions):
        segment = _segment_of(lesion, findings)
        if segment is None or everything is None:
            continue
        own = _voxels_of(lesion, segment.mask, volume)
        k = int(own.sum(axis=(1, 2)).argmax())
        if own[k].any():
            others = everything[k] & ~own[k]
            yield _View(k, own[k], others, segment_colour(segment), LESION_FIELD_MM, lesion=lesion.id)


def _segment_of(lesion: Lesion, findings: Findings) -> Segment | None:
    """Return the segment that a lesion lies in: that of its region, where there is one for each."""
    by_region = [item for item in findings.segments if item.region and item.region == lesion.region]
    by_name = [item for item in findings.segments if item.name == lesion.segment]
    return next(iter((*by_region, *by_name)), None)


def _voxels_of(lesion: Lesion, mask: BoolArray, volume: Volume) -> BoolArray:
    """Return the connected part of a mask, among those in a lesion's slices, whose centre is next to the lesion's."""
    first, last = lesion.slices_k
    labels, count = label(mask[first : last + 1], np.ones((3, 3, 3), bool))
    own = np.zeros(mask.shape, bool)
    if count:
        centres = np.array(center_of_mass(labels > 0, labels, range(1, count + 1))) + np.array((first, 0, 0))
        distances = np.linalg.norm(volume.position_lps(centres) - np.array(lesion.centre_lps), axis=1)
        own[first : last + 1] = labels == 1 + int(distances.argmin())
    return own


def _side_views(findings: Findings) -> Iterator[_View]:
    """Yield the candidate region in the nerve of each side that is positive, else the middle of the nerve."""
    for site in findings.sites:
        own = [item for item in findings.segments if item.laterality == site.laterality]
        if not own:
            continue
        shown, structure = own[-1], own[0]  # what was found comes after the structure in which it lies
        areas = shown.mask.sum(axis=(1, 2))
        slices = np.flatnonzero(areas)
        k = int(areas.argmax()) if shown is not structure else int(slices[len(slices) // 2])
        others = structure.mask[k] & ~shown.mask[k]
        yield _View(
            k, shown.mask[k], others, segment_colour(shown), NERVE_FIELD_MM, laterality=site.laterality
        )


def _drawn(plane: RgbArray, view: _View, spacing_mm: tuple[float, float]) -> RgbArray:
    """Return the square around a finding, enlarged, with thin outlines."""
    box = square_around(view.mask, view.field_mm, spacing_mm)
    image = enlarged(plane, box, Image.Resampling.BICUBIC)
    for mask, colour, line_px in (
        (view.others, OTHERS_RGB, OTHERS_PX),
        (view.mask, view.colour, LINE_PX),
    ):
        if mask.any():
            grown = np.repeat(255 * mask[..., None].astype(np.uint8), 3, axis=-1)
            inside = enlarged(grown, box, Image.Resampling.BILINEAR)[..., 0] >= 128
            image[binary_dilation(inside, iterations=line_px) & ~inside] = colour
    return image


def square_around(
    mask: BoolArray, field_mm: float, spacing_mm: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom, in pixels, of a square around a mask, within the image as far as it fits."""
    at = np.argwhere(mask)
    centre = (at.min(axis=0) + at.max(axis=0) + 1) / 2
    edges = []
    for axis in (1, 0):
        size, room = field_mm / spacing_mm[axis], mask.shape[axis]
        low = (room - size) / 2 if size >= room else float(np.clip(centre[axis] - size / 2, 0, room - size))
        edges.append((low, low + size))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def enlarged(
    plane: RgbArray,
    box: tuple[float, float, float, float],
    method: Image.Resampling,
    side_px: int = SIDE_PX,
) -> RgbArray:
    """Return a part of a plane as a square picture; beyond the plane it is black."""
    left, top, right, bottom = box
    scale_x, scale_y = (right - left) / side_px, (bottom - top) / side_px
    picture = Image.fromarray(plane).transform(
        (side_px, side_px), Image.Transform.AFFINE, (scale_x, 0, left, 0, scale_y, top), method
    )
    return np.array(picture)
