"""Number and description of each series of results: the list of a study's series reads from top to bottom.

The page of the whole study comes first, then each pipeline's pictures, mask, measurements, report and maps. Viewers sort by
number or description, in one order, since the number's last digits stand in the description. None names a disease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dicom_node.results.context import ResultContext

RESEARCH: Final = "RESEARCH"
LONG_STRING: Final = 64
"""Longest value of VR LO, in characters (PS3.5 6.2)."""

STUDY: Final[Mapping[str, tuple[int, str]]] = {
    "summary": (0, "1 study summary"),
    "summary-text": (1, "1 study summary as text"),
    "summary-sr": (2, "1 study summary coded"),
    "summary-sr-enhanced": (2, "1 study summary coded"),
    "summary-pdf": (3, "1 study summary in PDF"),
}
"""Of the objects on a whole study, by role: what is added to ``[results] series_number``, and words that sort alike."""
BLOCKS: Final[Mapping[str, int]] = {"flair": 10, "change": 10, "fatsat": 20}
"""Where the numbers of a pipeline begin, a comparison behind what it compares; those of others follow behind."""
OTHER_BLOCK: Final = 30
PLACES: Final[Mapping[str, tuple[int, str]]] = {
    "outline": (1, "outlines"),
    "seg": (2, "lesion mask"),
    "sr": (3, "measurements"),
    "sr-enhanced": (3, "measurements"),
    "text-sr": (4, "report"),
    "heatmap": (5, "maps"),
    "change-seg": (6, "change mask"),
    "change-picture": (7, "change in pairs"),
    "change-sr": (8, "change measured"),
    "change-sr-enhanced": (8, "change measured"),
    "change-text": (9, "change report"),
}
"""Of the objects of one series that was analysed, by role: place in the pipeline's block, and what they are called."""
_OWN_WORDS: Final[Mapping[tuple[str, str], str]] = {("fatsat", "seg"): "nerve, candidate region"}


@dataclass(frozen=True)
class ListedSeries:
    """SeriesNumber (0020,0011) and SeriesDescription (0008,103E) of one series of results."""

    number: int
    description: str


def listed_series(context: ResultContext, role: str) -> ListedSeries:
    """Return how the series of one kind of object is listed: ``RESEARCH 12 lesion mask: FLAIR lesions``.

    Viewers show some twenty characters of a description, in which the objects of one job must differ.
    """
    if role in STUDY:
        offset, what = STUDY[role]
        return ListedSeries(context.series_number_base + offset, f"{RESEARCH} {what}")
    place, what = PLACES[role]
    offset = BLOCKS.get(context.pipeline, OTHER_BLOCK) + place
    what = _OWN_WORDS.get((context.pipeline, role), what)
    described = f"{RESEARCH} {offset} {what}: {context.title}"
    return ListedSeries(context.series_number_base + offset, described[:LONG_STRING].rstrip(": "))
