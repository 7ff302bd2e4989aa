"""Maps of what drove a decision over their source slices, in one series of Secondary Capture images (PS3.3 A.8.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from pydicom.dataset import Dataset
from scipy.ndimage import binary_fill_holes

from dicom_node.errors import ResultError
from dicom_node.results import wording
from dicom_node.results.colours import FAINT, RgbArray, as_rgb, grey_levels, overlay, window_of, with_line
from dicom_node.results.context import ResultContext
from dicom_node.results.differential import may_name_class
from dicom_node.results.inset import enlarged_part
from dicom_node.results.manifest import site_name
from dicom_node.results.margin import AMBER, Margin, Remark, edge_letters, with_margin
from dicom_node.results.picture_grid import PictureGrid, thin_outline
from dicom_node.results.provenance import (
    DISCLAIMER,
    classes_origin,
    is_synthetic,
    model_named,
    training_origin,
    training_remark,
)
from dicom_node.results.secondary_capture import CaptureSeries, Picture
from dicom_node.results.source import slice_of
from dicom_node.standard import codes
from pipelines.types import BoolArray, Findings, FloatArray, Heatmap, ModelCard

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "heatmap"
MOST_SLICES: Final = 5
"""Of one map, with the key slices only: those that show most of it."""
COARSE_MM: Final = 10.0
"""A map with values farther apart than this says so: its blots are no outlines of anything."""
UNNAMED: Final = "map of the image reader"
"""A map whose class may not be named."""


@dataclass(frozen=True)
class ShownMap:
    """Map of one kind and model as it is shown, that of both sides in one picture.

    Parameters
    ----------
    parts : tuple of Heatmap
        One, or one for each side.
    model : ModelCard or None
    """

    parts: tuple[Heatmap, ...]
    model: ModelCard | None

    @property
    def first(self) -> Heatmap:
        """The map, or that of the first side: what both share is read from it."""
        return self.parts[0]

    def values(self, k: int) -> FloatArray:
        """Return the values of slice k, shape (j, i), in [0, 1]."""
        return np.asarray(np.maximum.reduce([np.nan_to_num(part.values[k]) for part in self.parts]))

    def seen(self) -> FloatArray:
        """Return how much of the map each slice shows, each side as a share of its own most."""
        shares = []
        for part in self.parts:
            sums = np.where(part.values >= FAINT, part.values, 0.0).sum(axis=(1, 2), dtype=np.float64)
            shares.append(sums / max(float(sums.max(initial=0.0)), 1e-9))
        return np.asarray(np.sum(shares, axis=0), dtype=np.float32)


def build_heatmaps(
    findings: Findings, series: LoadedSeries, sources: list[Dataset], context: ResultContext
) -> Iterator[tuple[str, Dataset]]:
    """Yield (file name, image) for each slice of each map, one at a time: all together they may be large.

    Raises
    ------
    ResultError
        A map is not on the source's grid, or there is no volume to draw it over.
    """
    volume = series.volume
    if volume is None:
        raise ResultError("a heatmap needs the volume that it explains")
    for heatmap in findings.heatmaps:
        for array in (heatmap.values, heatmap.outline):
            if array is not None and array.shape != volume.array.shape:
                raise ResultError(
                    f"heatmap {heatmap.name!r} has shape {array.shape}, the source {volume.array.shape}"
                )
    window = window_of(volume.array)
    for number, shown in enumerate(shown_maps(findings, context)):
        captures = CaptureSeries(context, ROLE, [shown.model] if shown.model else findings.models)
        for k in slices_shown(shown, findings, context):
            place = slice_of(series, sources, k)
            grid = PictureGrid.over(volume.array.shape[1:], place.spacing)
            background = as_rgb(grid.grey(grey_levels(volume.array[k], window)))
            drawn, insets = _drawn(background, shown, k, grid)
            margin = Margin(
                remarks_of(shown, findings, k, place.image_number),
                edge_letters(place.orientation),
                has_bar=True,
                insets=insets,
            )
            picture = Picture(
                with_margin(drawn, margin),
                grid.spacing_mm,
                comments_of(shown, findings),
                f"{shown.first.name} over the source image: {shown.first.method}",
            )
            ds = captures.image(picture, place, (number, k))
            yield f"heatmap-{number + 1}-{k + 1:04d}.dcm", ds


def shown_maps(findings: Findings, context: ResultContext) -> list[ShownMap]:
    """Return the maps to be shown: of each model the finest, or all of them where every slice is wanted.

    With the differential off there is none that explains a disease.
    """
    diseases = {item.name for item in findings.hypotheses}
    groups: dict[tuple[str, str, str], list[Heatmap]] = {}
    for number, item in enumerate(findings.heatmaps):
        explains_disease = item.class_name in diseases or codes.names_disease(item.class_name)
        if context.differential == "off" and explains_disease:
            continue
        own = "" if item.laterality else str(number)
        groups.setdefault((item.model, item.name, own), []).append(item)
    shown = [ShownMap(tuple(parts), model_named(findings, parts[0].model)) for parts in groups.values()]
    if context.heatmap_slices == "all":
        return shown
    finest: dict[str, ShownMap] = {}
    for each in shown:
        known = finest.get(each.first.model)
        if known is None or (each.first.resolution_mm or 0.0) < (known.first.resolution_mm or 0.0):
            finest[each.first.model] = each
    return list(finest.values())


def slices_shown(shown: ShownMap, findings: Findings, context: ResultContext) -> list[int]:
    """Return the slices k of a map to be drawn, ascending: the key slices that show most of it, or all that show any."""
    seen = shown.seen()
    keys = {k for part in shown.parts for k in part.key_slices_k if 0 <= k < len(seen)}
    if context.heatmap_slices == "key":
        ranked = sorted(keys, key=lambda k: (-seen[k], k))
        lit = [k for k in ranked if seen[k] > 0][:MOST_SLICES]
        return sorted(lit or ranked[:1])
    wanted = [*np.flatnonzero(seen > 0).tolist(), *keys]
    wanted += [k for lesion in findings.lesions for k in lesion.slices_k]
    return list(range(min(wanted), max(wanted) + 1)) if wanted else []


def remarks_of(shown: ShownMap, findings: Findings, k: int, image_number: int) -> tuple[Remark, ...]:
    """Return what stands in the margin of the picture of slice ``k``."""
    heatmap, model = shown.first, shown.model
    named = heatmap.model if model is None else f"{model.name} {model.version}"
    remarks = [
        Remark("RESEARCH USE", AMBER),
        Remark(f"{title_of(shown, findings)}, image {image_number}"),
        Remark(f"{heatmap.name}, {named}"),
    ]
    if model is not None and is_synthetic(model):
        separate = model.classes_trained_on is not None
        origin = f"classes learnt from {classes_origin(model)} data" if separate else training_origin(model)
        remarks.append(Remark(origin, AMBER))
    if (heatmap.resolution_mm or 0.0) > COARSE_MM:
        remarks.append(Remark(f"coarse map: one value for each {heatmap.resolution_mm:.0f} mm", AMBER))
    if findings.status != "findings" and not heatmap.laterality:
        remarks.append(Remark("nothing was found"))
    if float(shown.values(k).max()) < FAINT:
        remarks.append(Remark(f"nothing above {FAINT:g} on this slice"))
    return tuple(remarks)


def title_of(shown: ShownMap, findings: Findings) -> str:
    """Return what a map is: that of a class where it may be named, else a map of the image reader; with its sides."""
    where = " and ".join(filter(None, (structure_of(part, findings) for part in shown.parts)))
    if not all(
        may_name_class(findings, shown.model, part.class_name, part.probability) for part in shown.parts
    ):
        return f"{UNNAMED}: {where}" if where else UNNAMED
    said = []
    for part in shown.parts:
        stated = "" if part.probability is None else f" {wording.probability_text(part.probability)}"
        side = f"{structure_of(part, findings)} " if part.laterality else ""
        said.append(f'{side}class "{part.class_name}"{stated}')
    return f"map: {', '.join(said)}"


def comments_of(shown: ShownMap, findings: Findings) -> str:
    """Return ImageComments (0020,4000): what the map is, what its model has learnt from, and what it is not for."""
    told = f"RESEARCH. {title_of(shown, findings)}; {shown.first.name} of {shown.first.model}."
    return " ".join(filter(None, (told, training_remark(shown.model), DISCLAIMER)))


def structure_of(heatmap: Heatmap, findings: Findings) -> str:
    """Return the side and structure that a map explains ("right optic nerve"); the side alone where no site has it."""
    for site in findings.sites:
        if site.laterality == heatmap.laterality:
            return site_name(site)
    return heatmap.laterality or ""


def _drawn(
    background: RgbArray, shown: ShownMap, k: int, grid: PictureGrid
) -> tuple[RgbArray, tuple[RgbArray, ...]]:
    """Return the map of one slice over its source, with the edge of what the network saw, and what lies inside it enlarged."""
    lit = overlay(background, grid.values(shown.values(k)))
    drawn, insets = lit, []
    for seen in _parts_seen(shown.parts, k):
        inside = grid.mask(seen)
        drawn = with_line(drawn, thin_outline(inside))
        insets.append(enlarged_part(lit, inside))
    return drawn, tuple(part for part in insets if part is not None)


def _parts_seen(parts: Sequence[Heatmap], k: int) -> list[BoolArray]:
    """Return what the network saw on slice k, in the order in which the parts stand in the picture from the left."""
    edges = [part.outline[k] for part in parts if part.outline is not None and part.outline[k].any()]
    filled = [np.asarray(binary_fill_holes(edge), dtype=bool) for edge in edges]
    return sorted(filled, key=lambda inside: float(np.flatnonzero(inside.any(axis=0)).mean()))
