"""Heatmaps, what drove a decision, as Secondary Capture images (PS3.3 A.8.1) that lie where their source slices lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.errors import ResultError
from dicom_node.results import wording
from dicom_node.results.colours import RgbArray, grey, overlay, window_of, with_line
from dicom_node.results.context import ResultContext
from dicom_node.results.inset import with_inset
from dicom_node.results.manifest import site_name
from dicom_node.results.picture import Caption, draw_caption, orientation_letters, side_letters
from dicom_node.results.provenance import (
    DISCLAIMER,
    code_item,
    finish,
    is_synthetic,
    model_named,
    training_remark,
)
from dicom_node.results.source import Slice, slice_of
from dicom_node.standard import codes
from pipelines.types import Findings, Heatmap, ModelCard

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE = "heatmap"
SERIES_OFFSET = 3
NOTHING = 0.05
"""With every slice wanted, one whose map stays below this everywhere, and that lies beyond the others, is left out."""
BARELY = 0.2
"""A slice whose map stays below this shows no colour that an eye would see, and says so."""


def build_heatmaps(
    findings: Findings, series: LoadedSeries, sources: list[Dataset], context: ResultContext
) -> Iterator[tuple[str, Dataset]]:
    """Yield (file name, image) for each slice of each map, one at a time: all together they may be large.

    Raises
    ------
    ResultError
        A map is not on the source's grid, or there is no volume to draw it over.
    """
    if series.volume is None:
        raise ResultError("a heatmap needs the volume that it explains")
    window = window_of(series.volume.array)
    for number, heatmap in enumerate(shown_heatmaps(findings, context)):
        for drawn in (heatmap.values, heatmap.outline):
            if drawn is not None and drawn.shape != series.volume.array.shape:
                raise ResultError(
                    f"heatmap {heatmap.name!r} has shape {drawn.shape}, the source {series.volume.array.shape}"
                )
        model = model_named(findings, heatmap.model)
        for k in slices_shown(heatmap, findings, context):
            place = slice_of(series, sources, k)
            background = grey(series.volume.array[k], window)
            image = draw_caption(
                _drawn(background, heatmap, k),
                caption_of(heatmap, model, place, findings, k),
                colour_bar=True,
            )
            ds = _secondary_capture(image, place, heatmap, model, structure_of(heatmap, findings))
            finish(
                ds,
                source=place.source,
                context=context,
                models=[model] if model else findings.models,
                role=ROLE,
                what=f"{heatmap.name} {heatmap.laterality or heatmap.class_name}",
                series_number=context.series_number_base + SERIES_OFFSET + number,
                instance_number=place.image_number,
                index=(number, k),
                series_index=(number,),
            )
            yield f"heatmap-{number + 1}-{k + 1:04d}.dcm", ds


def _drawn(background: RgbArray, heatmap: Heatmap, k: int) -> RgbArray:
    """Return the map of one slice over its source; with an outline, what lies inside it is also shown enlarged."""
    lit = overlay(background, heatmap.values[k])
    if heatmap.outline is None:
        return lit
    return with_inset(with_line(lit, heatmap.outline[k]), lit, heatmap.outline[k])


def shown_heatmaps(findings: Findings, context: ResultContext) -> list[Heatmap]:
    """Return the maps to be shown: with the differential off, none that explains a disease."""
    if context.differential != "off":
        return list(findings.heatmaps)
    diseases = {item.name for item in findings.hypotheses}
    return [
        item
        for item in findings.heatmaps
        if item.class_name not in diseases and not codes.names_disease(item.class_name)
    ]


def slices_shown(heatmap: Heatmap, findings: Findings, context: ResultContext) -> list[int]:
    """Return the slices k of a map to be drawn, ascending: its own key slices, or all that show any of it."""
    count = heatmap.values.shape[0]
    if context.heatmap_slices == "key":
        return sorted({k for k in heatmap.key_slices_k if 0 <= k < count})
    lit = np.flatnonzero(heatmap.values.max(axis=(1, 2)) >= NOTHING).tolist()
    lit += [k for lesion in findings.lesions for k in lesion.slices_k] + list(heatmap.key_slices_k)
    return list(range(min(lit), max(lit) + 1)) if lit else []


def caption_of(
    heatmap: Heatmap, model: ModelCard | None, place: Slice, findings: Findings, k: int
) -> Caption:
    """Return what is burned into the heatmap of slice ``k``."""
    if heatmap.laterality:
        explained = f'{structure_of(heatmap, findings).capitalize()}: class "{heatmap.class_name}"'
        outcome = "" if heatmap.probability is None else f" {wording.probability_text(heatmap.probability)}"
    else:
        explained = heatmap.class_name
        outcome = "" if findings.status == "findings" else "  (nothing found)"
        if heatmap.probability is not None:
            outcome = f": {wording.probability_text(heatmap.probability)}"
    top = [
        f"{explained}{outcome}",
        heatmap.name,
        f"{model.name} {model.version}" if model else heatmap.model,
    ]
    if heatmap.values[k].max() < BARELY:
        top.append(f"below {BARELY:g} on this slice")
    bottom = ["RESEARCH USE"]
    if model is not None and is_synthetic(model):
        bottom.append(f"trained on {model.classes_trained_on or model.trained_on} data")
    return Caption(tuple(top), tuple(bottom), side_letters(place.orientation))


def structure_of(heatmap: Heatmap, findings: Findings) -> str:
    """Return the side and structure that a map explains ("right optic nerve"); the side alone where no site has it."""
    for site in findings.sites:
        if site.laterality == heatmap.laterality:
            return site_name(site)
    return heatmap.laterality or ""


def _secondary_capture(
    image: RgbArray, place: Slice, heatmap: Heatmap, model: ModelCard | None, structure: str
) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.Modality = "OT"
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation = "YES"
    ds.LossyImageCompression = "00"
    stated = "" if heatmap.probability is None else f", {wording.probability_text(heatmap.probability)}"
    where = f" of the {structure}" if structure else ""
    shown = f"RESEARCH. {heatmap.name} of {heatmap.model} for the class {heatmap.class_name}{where}{stated}."
    ds.ImageComments = " ".join(filter(None, (shown, training_remark(model), DISCLAIMER)))
    ds.DerivationDescription = f"{heatmap.name} over the source image: {heatmap.method}"[:1024]
    _add_geometry(ds, place)
    _add_source(ds, place)
    rows, columns, samples = image.shape
    ds.Rows, ds.Columns, ds.SamplesPerPixel = rows, columns, samples
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    pixels = np.ascontiguousarray(image).tobytes()
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
    return ds


def _add_geometry(ds: Dataset, place: Slice) -> None:
    """State that the image lies exactly where its source does (PS3.3 C.7.6.2)."""
    ds.FrameOfReferenceUID = place.source.FrameOfReferenceUID
    ds.PositionReferenceIndicator = place.source.get("PositionReferenceIndicator", "")
    ds.ImagePositionPatient = list(place.position)
    ds.ImageOrientationPatient = list(place.orientation)
    ds.PatientOrientation = [
        orientation_letters(place.orientation[:3]),
        orientation_letters(place.orientation[3:]),
    ]
    ds.PixelSpacing = list(place.spacing)
    ds.SliceThickness = place.thickness_mm


def _add_source(ds: Dataset, place: Slice) -> None:
    """Name the source slice, pixel by pixel the same place (PS3.3 C.7.6.1.1.4)."""
    item = Dataset()
    item.ReferencedSOPClassUID = place.source.SOPClassUID
    item.ReferencedSOPInstanceUID = place.source.SOPInstanceUID
    if place.frame is not None:
        item.ReferencedFrameNumber = place.frame
    item.PurposeOfReferenceCodeSequence = [code_item(codes.SOURCE_IMAGE)]
    item.SpatialLocationsPreserved = "YES"
    ds.SourceImageSequence = [item]
