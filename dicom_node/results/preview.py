"""Pictures for people without a viewer, made from the DICOM files as they were returned: no other knowledge goes in."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut
from scipy.ndimage import binary_dilation

from dicom_node.errors import ResultError
from dicom_node.results.colours import RgbArray, grey, window_of
from dicom_node.results.inset import with_inset
from dicom_node.results.manifest import Manifest
from dicom_node.results.picture import Caption, draw_caption, side_letters
from dicom_node.standard import codes
from pipelines.types import BoolArray

SMALLEST_SIDE_PX: Final = 640
BAND: Final = (18, 18, 18)
FONT_SIZE: Final = 16
AROUND_PX: Final = 8
"""Of the source, shown around a small mask where it is enlarged."""

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskFrame:
    """One frame of a SEG: its segment, and the source image and frame that it says it was made from."""

    segment: int
    source_uid: str
    source_frame: int
    position: tuple[float, ...]
    mask: BoolArray


def write_previews(folder: Path, sources: Iterable[Path], out: Path, most: int = 4) -> list[Path]:
    """Write PNGs of a result folder: the slice with most mask outlined on its source, then up to ``most`` heatmaps.

    Of masks on both sides there is a picture for each side; of the heatmaps the most lit one of each map comes first.

    Parameters
    ----------
    folder : Path
        A result folder, with its manifest.
    sources : iterable of Path
        The files of the series that was analysed.

    Raises
    ------
    ResultError
        An object can't be read, or refers to a source that is not among the files.
    """
    out.mkdir(parents=True, exist_ok=True)
    manifest = Manifest.read(folder)
    written = []
    for item in manifest.with_role("seg"):
        shown = last_of_each_side(dcmread(folder / item.path, stop_before_pixels=True))
        for side, segment in shown.items():
            name = f"mask-{side}.png" if len(shown) > 1 else "mask.png"
            written.append(mask_preview(folder / item.path, sources, out / name, segment))
    by_series: dict[str, list[Path]] = {}
    for item in manifest.with_role("heatmap"):
        by_series.setdefault(item.series_uid, []).append(folder / item.path)
    ranked = [most_lit_first(paths) for paths in by_series.values()]
    turns = [path for turn in zip_longest(*ranked) for path in turn if path is not None]
    written += [heatmap_preview(path, out / f"{path.stem}.png") for path in sorted(turns[:most])]
    return written


def last_of_each_side(seg: Dataset) -> dict[str, int]:
    """Return the number of the last segment of each side ("right", "left", "" for none): what was found there."""
    sides = {code.value: side for side, code in codes.LATERALITY.items()}
    last: dict[str, int] = {}
    for item in seg.SegmentSequence:
        (region,) = item.get("AnatomicRegionSequence") or (Dataset(),)
        (side,) = region.get("AnatomicRegionModifierSequence") or (Dataset(),)
        last[sides.get(side.get("CodeValue", ""), "")] = int(item.SegmentNumber)
    return last


def most_lit_first(paths: Iterable[Path]) -> list[Path]:
    """Return the images of one map, the most coloured first; all else in them that is coloured is the same in each."""
    colour = {}
    for path in paths:
        pixels = dcmread(path).pixel_array.astype(np.int16)
        colour[path] = int((pixels.max(axis=-1) - pixels.min(axis=-1)).sum())
    return sorted(colour, key=lambda path: (-colour[path], path.name))


def mask_preview(segmentation: Path, sources: Iterable[Path], out: Path, segment: int | None = None) -> Path:
    """Write the source slice that holds most of a segment, with the outline of every segment.

    Without its number the last one is meant: it is what was found; before it may stand the structure in which it lies.
    """
    seg = dcmread(segmentation)
    frames = mask_frames(seg)
    wanted = max(frame.segment for frame in frames) if segment is None else segment
    best = max(
        (frame for frame in frames if frame.segment == wanted), key=lambda frame: int(frame.mask.sum())
    )
    source = _source_with(best.source_uid, sources)
    plane = _plane(source, best.source_frame)
    here = [frame for frame in frames if frame.position == best.position]
    colours = segment_colours(seg)
    spacing = _in_plane_spacing(seg)
    rows, columns, scale = _display_size(plane.shape, spacing)
    drawn = np.array(
        Image.fromarray(grey(plane, window_of(plane))).resize((columns, rows), Image.Resampling.BICUBIC)
    )
    for frame in here:
        enlarged = Image.fromarray(frame.mask).resize((columns, rows), Image.Resampling.NEAREST)
        drawn[_outline(np.asarray(enlarged))] = colours[frame.segment]
    around = binary_dilation(best.mask, iterations=AROUND_PX)
    part = np.asarray(Image.fromarray(around).resize((columns, rows), Image.Resampling.NEAREST))
    drawn = draw_caption(with_inset(drawn, drawn, part), _mask_caption(seg), colour_bar=False)
    number = source.get("InstanceNumber") if best.source_frame == 1 else best.source_frame
    labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in seg.SegmentSequence}
    voxel_ml = voxel_volume_mm3(frames, spacing) / 1000
    here_ml = {frame.segment: float(frame.mask.sum()) * voxel_ml for frame in here}
    lines: list[tuple[str, Colour | None]] = [
        (f"{seg.SeriesDescription}   image {number}   {scale:.1f}x", None)
    ]
    for found, total in segment_volumes_ml(frames, spacing).items():
        said = f"{labels[found]}: {_amount(total)} in all, {_amount(here_ml.get(found, 0.0))} in this slice"
        lines.append((said, colours[found]))
    _with_band(drawn, lines).save(out)
    return out


_TRAINED = re.compile(r"trained on .+ data$")
"""As `provenance.finish` ends a model's ContributionDescription."""


def _mask_caption(seg: Dataset) -> Caption:
    """Return what a picture of masks says of itself: the sides, its use, and what the models have learnt from."""
    groups = seg.SharedFunctionalGroupsSequence[0], seg.PerFrameFunctionalGroupsSequence[0]
    plane = next(group.PlaneOrientationSequence[0] for group in groups if "PlaneOrientationSequence" in group)
    equipment = seg.get("ContributingEquipmentSequence") or ()
    told = [_TRAINED.search(str(item.get("ContributionDescription", ""))) for item in equipment]
    # the model that drew the mask comes first, behind the scanner
    origin = next((found[0] for found in told if found), "")
    return Caption(
        (),
        ("RESEARCH USE", *((origin,) if "synthetic" in origin else ())),
        side_letters(tuple(float(value) for value in plane.ImageOrientationPatient)),
    )


def _amount(volume_ml: float) -> str:
    return f"{volume_ml:.2f} mL" if volume_ml >= 0.1 else f"{1000 * volume_ml:.0f} mm3"


def heatmap_preview(heatmap: Path, out: Path) -> Path:
    """Write a heatmap, enlarged, with what it says of itself beneath it."""
    ds = dcmread(heatmap)
    rows, columns, _ = _display_size(ds.pixel_array.shape, [float(value) for value in ds.PixelSpacing])
    picture = Image.fromarray(ds.pixel_array).resize((columns, rows), Image.Resampling.LANCZOS)
    lines = [
        f"{ds.SeriesDescription}   image {ds.InstanceNumber}",
        *_wrapped(str(ds.DerivationDescription), columns),
    ]
    _with_band(np.asarray(picture), [(line, None) for line in lines]).save(out)
    return out


def mask_frames(seg: Dataset) -> list[MaskFrame]:
    """Return every frame of a BINARY SEG (PS3.3 C.8.20) with what it refers to."""
    planes = seg.pixel_array.reshape((int(seg.NumberOfFrames), seg.Rows, seg.Columns)).astype(bool)
    shared = seg.SharedFunctionalGroupsSequence[0]
    frames = []
    for plane, groups in zip(planes, seg.PerFrameFunctionalGroupsSequence, strict=True):
        segment = groups.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
        frames.append(
            MaskFrame(
                segment=int(segment[0].ReferencedSegmentNumber),
                source_uid=str(reference.ReferencedSOPInstanceUID),
                source_frame=int(reference.get("ReferencedFrameNumber") or 1),
                position=tuple(
                    float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient
                ),
                mask=plane,
            )
        )
    return frames


def voxel_volume_mm3(frames: Sequence[MaskFrame], spacing_mm: Sequence[float]) -> float:
    """Return the volume of a voxel, the distance between slices taken from the frames' positions."""
    positions = np.unique(np.array([frame.position for frame in frames]), axis=0)
    extent = np.linalg.norm(positions.max(axis=0) - positions.min(axis=0))
    between = extent / (len(positions) - 1) if len(positions) > 1 else 1.0
    return float(spacing_mm[0] * spacing_mm[1] * between)


def segment_volumes_ml(frames: Sequence[MaskFrame], spacing_mm: Sequence[float]) -> dict[int, float]:
    """Return the volume of each segment, in mL, from its voxels."""
    voxel_ml = voxel_volume_mm3(frames, spacing_mm) / 1000
    volumes: dict[int, float] = {}
    for frame in frames:
        volumes[frame.segment] = volumes.get(frame.segment, 0.0) + float(frame.mask.sum()) * voxel_ml
    return volumes


def segment_colours(seg: Dataset) -> Mapping[int, Colour]:
    """Return the RGB of each segment, from its RecommendedDisplayCIELabValue (PS3.3 C.10.7.1.1)."""
    colours = {}
    for item in seg.SegmentSequence:
        scaled = np.array(item.RecommendedDisplayCIELabValue, dtype=np.float64) / 0xFFFF
        colours[int(item.SegmentNumber)] = _rgb_of_lab(
            100 * scaled[0], 255 * scaled[1] - 128, 255 * scaled[2] - 128
        )
    return colours


def _rgb_of_lab(lightness: float, a: float, b: float) -> Colour:
    """Return sRGB of CIELab under D50, the profile connection space that DICOM names."""
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f**3 > 0.008856, f**3, (f - 16 / 116) / 7.787) * np.array([0.9642, 1.0, 0.8249])
    to_rgb = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    linear = np.clip(to_rgb @ xyz, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = np.rint(255 * srgb).astype(int)
    return int(red), int(green), int(blue)


def _source_with(sop_instance_uid: str, sources: Iterable[Path]) -> Dataset:
    for path in sources:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
        if str(ds.SOPInstanceUID) == sop_instance_uid:
            return dcmread(path)
    raise ResultError("the SEG refers to a source image that is not among the files of the series")


def _plane(source: Dataset, frame: int) -> npt.NDArray[np.float32]:
    pixels = apply_modality_lut(source.pixel_array, source)
    return np.asarray(pixels if pixels.ndim == 2 else pixels[frame - 1], dtype=np.float32)


def _in_plane_spacing(seg: Dataset) -> list[float]:
    first = seg.PerFrameFunctionalGroupsSequence[0]
    groups = first if "PixelMeasuresSequence" in first else seg.SharedFunctionalGroupsSequence[0]
    return [float(value) for value in groups.PixelMeasuresSequence[0].PixelSpacing]


def _display_size(shape: tuple[int, ...], spacing_mm: Sequence[float]) -> tuple[int, int, float]:
    """Return rows, columns and the enlargement, twice at least, that show the slice undistorted."""
    finest = min(spacing_mm)
    rows, columns = shape[0] * spacing_mm[0] / finest, shape[1] * spacing_mm[1] / finest
    scale = max(2.0, math.ceil(SMALLEST_SIDE_PX / max(rows, columns)))
    return round(rows * scale), round(columns * scale), scale


def _outline(mask: BoolArray) -> BoolArray:
    """Return the pixels just outside a mask, one pixel thin."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return np.asarray(grown & ~mask)


def _wrapped(text: str, width: int, most: int = 3) -> list[str]:
    """Return a text as lines that fit a picture's width, the first few only."""
    font = ImageFont.load_default(FONT_SIZE)
    lines: list[str] = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width - 24:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines[:most]


def _with_band(picture: RgbArray, lines: Sequence[tuple[str, Colour | None]]) -> Image.Image:
    """Return a picture with a dark band beneath it that holds the lines, each behind a patch of its colour if it has one."""
    font = ImageFont.load_default(FONT_SIZE)
    rows, columns, _ = picture.shape
    step = FONT_SIZE + 8
    canvas = Image.new("RGB", (columns, rows + step * len(lines) + 12), BAND)
    canvas.paste(Image.fromarray(picture), (0, 0))
    pen = ImageDraw.Draw(canvas)
    for index, (line, colour) in enumerate(lines):
        top = rows + 8 + index * step
        if colour is not None:
            pen.rectangle((12, top + 2, 12 + FONT_SIZE - 4, top + FONT_SIZE - 2), fill=colour)
        pen.text((12 if colour is None else 20 + FONT_SIZE, top), line, font=font, fill=(235, 235, 235))
    return canvas
