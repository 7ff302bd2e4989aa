"""A few missing slices: interpolated for the pipeline alone, and gone again from what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dicom_node.errors import GeometryError
from dicom_node.standard.geometry import Gap
from pipelines.types import Findings, FloatArray, Heatmap, Lesion, Segment, Volume

MOST_MISSING = 3
LARGEST_SHARE = 0.1
"""Of the whole stack; beyond either limit too much of the volume would be invented."""


def filled(volume: Volume, gaps: Sequence[Gap]) -> Volume:
    """Return the volume with its missing slices, each linear between the slices around its gap.

    Raises
    ------
    GeometryError
        More slices are missing than can be invented.
    """
    missing = sum(gap.missing for gap in gaps)
    total = len(volume.array) + missing
    if missing > MOST_MISSING or missing > LARGEST_SHARE * total:
        raise GeometryError(
            f"{missing} of {total} slices missing ({_places(gaps)}), more than can be interpolated: "
            f"{MOST_MISSING} slices and {LARGEST_SHARE * 100:.0f} % of the stack"
        )
    array = volume.array
    for gap in reversed(gaps):
        after_k = gap.after_k + 1
        array = np.concatenate([array[:after_k], _between(volume.array, gap), array[after_k:]])
    return replace(volume, array=array)


def without_invented(findings: Findings, gaps: Sequence[Gap]) -> Findings:
    """Return what was found in a filled volume on the slices at hand, with a warning that tells of the others.

    Masks, probabilities and maps lose the invented slices, and slices k count the others only. Volumes, counts
    and centres stay as measured. What lies in invented slices only is shown on those around the gap.
    """
    if not gaps or findings.status not in ("findings", "none"):
        return findings
    missing = sum(gap.missing for gap in gaps)
    was = "slice was" if missing == 1 else "slices were"
    included = "probabilities" if findings.sites else "volumes and counts"
    warnings = [
        f"{missing} missing {was} interpolated for the analysis ({_places(gaps)} along the slice normal); {included} "
        f"include what was found there, the masks and maps do not"
    ]
    invented = invented_slices(gaps)
    inside = [lesion.id for lesion in findings.lesions if set(_range(lesion)) <= set(invented)]
    if inside:
        names = ", ".join(f"lesion {number}" for number in inside)
        warnings.append(f"seen in interpolated slices only: {names}")
    return replace(
        findings,
        segments=tuple(_segment(item, invented) for item in findings.segments),
        lesions=tuple(_lesion(item, invented) for item in findings.lesions),
        heatmaps=tuple(_heatmap(item, invented) for item in findings.heatmaps),
        brain=None,  # no even grid is left to be compared on
        probability=None,
        labels=None,
        warnings=(*findings.warnings, *warnings),
    )


def invented_slices(gaps: Sequence[Gap]) -> tuple[int, ...]:
    """Return the slices k of the filled volume that have no source, ascending."""
    invented: list[int] = []
    for gap in gaps:
        first = gap.after_k + 1 + len(invented)
        invented.extend(range(first, first + gap.missing))
    return tuple(invented)


def _between(array: FloatArray, gap: Gap) -> FloatArray:
    before, after = array[gap.after_k], array[gap.after_k + 1]
    shares = np.arange(1, gap.missing + 1, dtype=np.float32) / np.float32(gap.missing + 1)
    return np.asarray(before + shares[:, None, None] * (after - before), dtype=np.float32)


def _segment(segment: Segment, invented: Sequence[int]) -> Segment:
    probability = segment.probability
    return replace(
        segment,
        mask=np.delete(segment.mask, invented, axis=0),
        probability=None if probability is None else np.delete(probability, invented, axis=0),
    )


def _lesion(lesion: Lesion, invented: Sequence[int]) -> Lesion:
    first, last = lesion.slices_k
    # For a lesion within a gap the next slice lies behind the last one: sorted, they are those around the gap.
    around = sorted((_next(first, invented), _last(last, invented)))
    return replace(lesion, slices_k=(around[0], around[1]))


def _heatmap(heatmap: Heatmap, invented: Sequence[int]) -> Heatmap:
    shown = {index for k in heatmap.key_slices_k for index in (_last(k, invented), _next(k, invented))}
    outline = heatmap.outline
    return replace(
        heatmap,
        values=np.delete(heatmap.values, invented, axis=0),
        key_slices_k=tuple(sorted(shown)),
        outline=None if outline is None else np.delete(outline, invented, axis=0),
    )


def _next(k: int, invented: Sequence[int]) -> int:
    """Return the index, among slices with a source, of the first one at or after k."""
    return k - sum(other < k for other in invented)


def _last(k: int, invented: Sequence[int]) -> int:
    """Return the index, among slices with a source, of the last one at or before k."""
    return k - sum(other <= k for other in invented)


def _range(lesion: Lesion) -> range:
    return range(lesion.slices_k[0], lesion.slices_k[1] + 1)


def _places(gaps: Sequence[Gap]) -> str:
    return ", ".join(f"{gap.missing} between {gap.after_mm:.1f} and {gap.before_mm:.1f} mm" for gap in gaps)
