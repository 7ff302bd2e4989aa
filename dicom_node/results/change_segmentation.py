"""Masks of what has changed as one BINARY Segmentation (PS3.3 A.51) in a series of its own.

They overlap the regions of the lesion mask, and come later than it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import highdicom
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_node.errors import ResultError
from dicom_node.results.colours import Rgb
from dicom_node.results.context import ResultContext
from dicom_node.results.segmentation import algorithm_of_segments, encoded_masks
from dicom_node.standard import codes
from pipelines.comparison import CHANGES, Comparison, LesionChange
from pipelines.types import BoolArray, ModelCard, Volume

if TYPE_CHECKING:
    from dicom_node.series.volume import LoadedSeries

ROLE: Final = "change-seg"
POSSIBLE: Final = "possible"
COLOURS: Final[Mapping[str, Rgb]] = {
    "new": (255, 64, 64),
    "enlarging": (255, 128, 200),
    "smaller": (110, 170, 255),
    "resolved": (190, 190, 200),
    POSSIBLE: (255, 205, 60),
}
"""Of a kind of change, in masks and pictures alike."""
_NAMES: Final[Mapping[str, str]] = {
    "new": "New lesions",
    "enlarging": "Enlarging lesions",
    "smaller": "Smaller lesions",
    "resolved": "Resolved lesions",
    POSSIBLE: "Possible change",
}


@dataclass(frozen=True)
class ChangeSegment:
    """Segment of all changes of one kind.

    Parameters
    ----------
    kind : str
        A kind of change, or `POSSIBLE`.
    changes : tuple of LesionChange
        Those with voxels.
    mask : bool array, shape (k, j, i)
        On the grid of the current image.
    """

    kind: str
    changes: tuple[LesionChange, ...]
    mask: BoolArray

    @property
    def name(self) -> str:
        """Name that a reader sees."""
        return _NAMES[self.kind]

    @property
    def code(self) -> Code:
        """Kind of change as a code."""
        return codes.POSSIBLE if self.kind == POSSIBLE else codes.change_code(self.kind)

    def tracking_uid(self, context: ResultContext) -> str:
        """Return the Tracking UID that SEG and SR share."""
        return context.derive_uid("change-segment", self.kind)


def kind_of(change: LesionChange) -> str:
    """Return the segment that a change belongs to."""
    return POSSIBLE if change.possible else change.change


def change_segments(
    comparison: Comparison, changes: Sequence[LesionChange], volume: Volume | None
) -> tuple[ChangeSegment, ...]:
    """Return the segments that have voxels, in the order of reports.

    Raises
    ------
    ResultError
        The labels do not lie on the grid of the volume.
    """
    labels = comparison.labels
    if labels is None or volume is None:
        return ()
    if labels.shape != volume.array.shape:
        raise ResultError(f"the changes have shape {labels.shape}, the source {volume.array.shape}")
    found = set(np.unique(labels).tolist())
    segments = []
    for kind in (*CHANGES, POSSIBLE):
        own = tuple(one for one in changes if kind_of(one) == kind and one.number in found)
        if own:
            segments.append(ChangeSegment(kind, own, np.isin(labels, [one.number for one in own])))
    return tuple(segments)


def build_change_segmentation(
    segments: Sequence[ChangeSegment],
    models: Sequence[ModelCard],
    series: LoadedSeries,
    sources: list[Dataset],
    context: ResultContext,
) -> Dataset:
    """Return the SEG of at least one segment on the grid of the current image."""
    descriptions = [
        _description(number, segment, models, context) for number, segment in enumerate(segments, start=1)
    ]
    masks = [segment.mask for segment in segments]
    return encoded_masks(
        masks, descriptions, series, sources, context, role=ROLE, models=models, label="CHANGE"
    )


def _description(
    number: int, segment: ChangeSegment, models: Sequence[ModelCard], context: ResultContext
) -> SegmentDescription:
    description = SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=codes.LESION_OF_BRAIN,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm_of_segments(models, context),
        tracking_uid=segment.tracking_uid(context),
        tracking_id=segment.name,
        display_color=CIELabColor.from_rgb(*COLOURS[segment.kind]),
    )
    kind = highdicom.sr.CodedConcept.from_code(segment.code)
    property_type = description.SegmentedPropertyTypeCodeSequence[0]
    property_type.SegmentedPropertyTypeModifierCodeSequence = [kind]
    return description
