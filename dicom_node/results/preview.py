"""Pictures for people without a viewer, made from the DICOM files as they were returned: no other knowledge goes in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut

from dicom_node.errors import ResultError
from dicom_node.results.colours import RgbArray, grey, window_of
from dicom_node.results.manifest import Manifest
from pipelines.types import BoolArray

SMALLEST_SIDE_PX: Final = 640
BAND: Final = (18, 18, 18)
FONT_SIZE: Final = 16


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
        written.append(mask_preview(folder / item.path, sources, out / "mask.png"))
    heatmaps = manifest.with_role("heatmap")
    for item in heatmaps[:: max(1, math.ceil(len(heatmaps) / most))]:
        written.append(heatmap_preview(folder / item.path, out / f"{Path(item.path).stem}.png"))
    return written


def mask_preview(segmentation: Path, sources: Iterable[Path], out: Path) -> Path:
    """Write the source slice that holds most of the last segment, with the outline of every segment.

    The last one is what was found; before it may stand the structure in which it lies.
    """
    seg = dcmread(segmentation)
    frames = mask_frames(seg)
    best = max(frames, key=lambda frame: (frame.segment, int(frame.mask.sum())))
    source = _source_with(best.source_uid, sources)
    plane = _plane(source, best.source_frame)
    here = [frame for frame in frames if frame.position == best.position]
    colours = segment_colours(seg)
    spacing = _in_plane_spacing(seg)
    rows, columns, scale = _display_size(plane.shape, spacing)
    picture = np.asarray(
        Image.fromarray(grey(plane, window_of(plane))).resize((columns, rows), Image.Resampling.BICUBIC)
    )
    drawn = picture.copy()
    for frame in here:
        enlarged = Image.fromarray(frame.mask).resize((columns, rows), Image.Resampling.NEAREST)
        drawn[_outline(np.asarray(enlarged))] = colours[frame.segment]
    number = source.get("InstanceNumber") if best.source_frame == 1 else best.source_frame
    labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in seg.SegmentSequence}
    here_ml = {frame.segment: frame.mask.sum() * voxel_volume_mm3(frames, spacing) / 1000 for frame in here}
    lines = [f"{seg.SeriesDescription}   image {number}   {scale:.1f}x"]
    for segment, total in segment_volumes_ml(frames, spacing).items():
        here = here_ml.get(segment, 0.0)
        lines.append(f"{labels[segment]}: {_amount(total)} in all, {_amount(here)} in this slice")
    _with_band(drawn, lines).save(out)
    return out


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
    _with_band(np.asarray(picture), lines).save(out)
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


def segment_colours(seg: Dataset) -> Mapping[int, tuple[int, int, int]]:
    """Return the RGB of each segment, from its RecommendedDisplayCIELabValue (PS3.3 C.10.7.1.1)."""
    colours = {}
    for item in seg.SegmentSequence:
        scaled = np.array(item.RecommendedDisplayCIELabValue, dtype=np.float64) / 0xFFFF
        colours[int(item.SegmentNumber)] = _rgb_of_lab(
            100 * scaled[0], 255 * scaled[1] - 128, 255 * scaled[2] - 128
        )
    return colours


def _rgb_of_lab(lightness: float, a: float, b: float) -> tuple[int, int, int]:
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


def _with_band(picture: RgbArray, lines: Sequence[str]) -> Image.Image:
    """Return a picture with a dark band beneath it that holds the lines."""
    font = ImageFont.load_default(FONT_SIZE)
    rows, columns, _ = picture.shape
    step = FONT_SIZE + 8
    canvas = Image.new("RGB", (columns, rows + step * len(lines) + 12), BAND)
    canvas.paste(Image.fromarray(picture), (0, 0))
    pen = ImageDraw.Draw(canvas)
    for index, line in enumerate(lines):
        pen.text((12, rows + 8 + index * step), line, font=font, fill=(235, 235, 235))
    return canvas
