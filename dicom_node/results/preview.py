"""Pictures for people without a viewer: the pixels of the objects as they were returned, where there is most to see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.errors import ResultError
from dicom_node.results.manifest import Manifest
from dicom_node.standard import codes
from pipelines.types import BoolArray


@dataclass(frozen=True)
class MaskFrame:
    """One frame of a SEG: its segment, and the source image and frame that it says it was made from."""

    segment: int
    source_uid: str
    source_frame: int
    position: tuple[float, ...]
    mask: BoolArray


def write_previews(folder: Path, out: Path, most: int = 4) -> list[Path]:
    """Write PNGs of a result folder: the outlines on the slice with most of the mask, then up to ``most`` maps.

    Of masks on both sides there is a picture for each side; of the maps the most lit one of each comes first.

    Parameters
    ----------
    folder : Path
        A result folder, with its manifest.

    Raises
    ------
    ResultError
        An object can't be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    manifest = Manifest.read(folder)
    outlines = [folder / item.path for item in manifest.with_role("outline")]
    written = []
    for item in manifest.with_role("seg"):
        for side, path in fullest_outlines(folder / item.path, outlines).items():
            written.append(write_png(path, out / (f"outlines-{side}.png" if side else "outlines.png")))
    ranked = most_lit_first(folder / item.path for item in manifest.with_role("heatmap"))
    return written + [write_png(path, out / f"{path.stem}.png") for path in sorted(ranked[:most])]


def write_png(picture: Path, out: Path) -> Path:
    """Write the pixels of a picture as PNG, and return its path.

    Raises
    ------
    ResultError
        It can't be written.
    """
    try:
        Image.fromarray(dcmread(picture).pixel_array).save(out)
    except OSError as error:
        raise ResultError(f"{out}: {error.strerror}") from error
    return out


def fullest_outlines(segmentation: Path, outlines: Iterable[Path]) -> Mapping[str, Path]:
    """Return the outlines on the slice that has most of a SEG, by side ("" for none), or on the slice next to it.

    All that was found counts, lesions of every region; the structure in which it lies does not.
    """
    positions = {
        path: np.array(
            dcmread(path, specific_tags=["ImagePositionPatient"]).ImagePositionPatient, dtype=float
        )
        for path in outlines
    }
    seg = dcmread(segmentation)
    frames = mask_frames(seg)
    fullest = {}
    for side, segments in found_on_each_side(seg).items() if positions else ():
        voxels: Counter[tuple[float, ...]] = Counter()
        for frame in frames:
            if frame.segment in segments:
                voxels[frame.position] += int(frame.mask.sum())
        best = np.array(max(voxels, key=lambda place: voxels[place]))
        fullest[side] = min(positions, key=lambda path: (float(np.linalg.norm(positions[path] - best)), path))
    shown = set(fullest.values())
    return {"": next(iter(shown))} if len(shown) == 1 else fullest


def found_on_each_side(seg: Dataset) -> dict[str, set[int]]:
    """Return the numbers of the segments with what was found, by side ("right", "left", "" for none).

    Where nothing was found on a side, those of its structures.
    """
    sides = {code.value: side for side, code in codes.LATERALITY.items()}
    found: dict[str, set[int]] = {}
    structures: dict[str, set[int]] = {}
    for item in seg.SegmentSequence:
        (region,) = item.get("AnatomicRegionSequence") or (Dataset(),)
        (modifier,) = region.get("AnatomicRegionModifierSequence") or (Dataset(),)
        side = sides.get(modifier.get("CodeValue", ""), "")
        (category,) = item.SegmentedPropertyCategoryCodeSequence
        is_structure = category.CodeValue == codes.ANATOMICAL_STRUCTURE.value
        (structures if is_structure else found).setdefault(side, set()).add(int(item.SegmentNumber))
    return {**structures, **found}


def most_lit_first(paths: Iterable[Path]) -> list[Path]:
    """Return pictures of maps, the most coloured first; all else in them that is coloured is much the same in each."""
    colour = {}
    for path in paths:
        pixels = dcmread(path).pixel_array.astype(np.int16)
        colour[path] = int((pixels.max(axis=-1) - pixels.min(axis=-1)).sum())
    return sorted(colour, key=lambda path: (-colour[path], path.name))


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
