"""Studies that the demonstration sends, and the verdict on what came back: of each series, and of the study's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from dicom_node.results.preview import fullest_outlines, mask_frames, most_lit_first, write_png
from dicom_node.results.series_list import BLOCKS, PLACES
from dicom_node.series.writer import write_series
from dicom_node.standard import codes
from dicom_node.standard.uids import derived_uid
from pipelines.types import BoolArray, Laterality, Point, Volume

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
MEASUREMENTS = "1.2.840.10008.5.1.4.1.1.88.34"
PICTURE = "1.2.840.10008.5.1.4.1.1.7"
TEXT = "1.2.840.10008.5.1.4.1.1.88.11"
EXPECTED = {
    SEGMENTATION: "SEG, mask",
    MEASUREMENTS: "SR, measurements (TID 1500)",
    TEXT: "SR, report as text",
    PICTURE: "SC, outlines and maps",
}
"""SOP classes that must come back of every series of the demonstration."""
EXPECTED_OF_STUDY = {
    PICTURE: "SC, page",
    TEXT: "SR, page as text",
    MEASUREMENTS: "SR, page coded (TID 1500)",
}
"""SOP classes that must come back on each whole study."""
EXPECTED_OF_CHANGE = {
    SEGMENTATION: "SEG, change",
    MEASUREMENTS: "SR, change measured (TID 1500)",
    TEXT: "SR, change as text",
    PICTURE: "SC, pairs of both dates",
}
"""SOP classes that must come back of a comparison with an earlier study."""
CHANGE = "change"
OUTLINES = PLACES["outline"][1]
"""Stands in the description of the series of outlines."""
PATIENT = {"PatientName": "Phantom^Demo", "PatientID": "PHANTOM", "PatientSex": "O"}
"""Of all studies: a phantom that is no patient."""
EYES_LPS = (0.0, -50.0, -36.0)
"""Midpoint between the eyes of the head that the FLAIR phantom is made from, mm."""
NEW_LESIONS = 2
"""Lesions of the phantom that its earlier study lacks."""
BLOCK = 10
"""Series numbers that one pipeline has at most; the first ones are of the whole study."""
LEAST_DICE = 0.3
"""Overlap with the truth below which the demonstration fails: a wrong place or side gives 0, a chance mask below 0.05."""
PHANTOM_ONLY = "a phantom: it says nothing about patients"

Objects = Mapping[str, Sequence[Path]]
"""Paths of what came back of a series, or on a whole study, by SOP class."""


@dataclass(frozen=True)
class Series:
    """One phantom series with its truth.

    Parameters
    ----------
    name : str
        The pipeline that it is meant for ("flair"); a word for folders and tables.
    what : str
        What it is, for the person who looks on.
    volume : Volume
        What is sent.
    lesions : bool array, shape (k, j, i)
        Its lesions.
    side : "left", "right" or None
        The optic nerve that has them; None for lesions of the brain.
    """

    name: str
    what: str
    volume: Volume
    lesions: BoolArray
    side: Laterality | None = None

    @property
    def description(self) -> str:
        """One line about what is sent."""
        k, j, i = self.volume.array.shape
        volume_ml = self.lesions.sum() * self.volume.voxel_volume_mm3 / 1000
        where = (
            f", a lesion in the {self.side} optic nerve" if self.side else f", {volume_ml:.1f} mL of lesions"
        )
        return f"{self.what}: {k} slices of {j} x {i}{where}"

    def judged(self, objects: Objects) -> tuple[bool, str]:
        """Return whether the answer is right, and a line that says what it was."""
        segs = objects.get(SEGMENTATION, [])
        reports = objects.get(MEASUREMENTS, [])
        if not segs or not reports:
            return False, "no mask or no measurements came back"
        if self.side:
            return self._judged_sides(dcmread(segs[0]), dcmread(reports[0]))
        mask = self._masks(dcmread(segs[0])).any(axis=0)
        dice = 2 * float((mask & self.lesions).sum()) / max(1.0, float(mask.sum() + self.lesions.sum()))
        volume_ml = float(mask.sum()) * self.volume.voxel_volume_mm3 / 1000
        return (
            dice >= LEAST_DICE,
            f"mask of {volume_ml:.1f} mL, Dice {dice:.2f} with the truth ({PHANTOM_ONLY})",
        )

    def _judged_sides(self, seg: Dataset, report: Dataset) -> tuple[bool, str]:
        """Ask for the right side, and for masks that lie on that side of the head."""
        sides = sides_judged(report)
        found = [side for side, positive in sides.items() if positive]
        masks = self._masks(seg)
        centre = self.volume.position_lps(np.argwhere(masks[-1]).mean(axis=0)) if masks[-1].any() else None
        truth = self.volume.position_lps(np.argwhere(self.lesions).mean(axis=0))
        x = self.volume.position_lps(np.argwhere(masks.any(axis=0)))[:, 0]
        middle = float(self.volume.position_lps((np.array(self.volume.array.shape) - 1) / 2)[0])
        on_side = bool(((x > middle) == (self.side == "left")).all())
        answers = ", ".join(
            f"{side} {'positive' if positive else 'negative'}" for side, positive in sides.items()
        )
        away = (
            ""
            if centre is None
            else f", candidate region {np.linalg.norm(centre - truth):.0f} mm from the lesion"
        )
        good = found == [self.side] and len(sides) == 2 and on_side
        return good, f"optic nerves: {answers}{away} ({PHANTOM_ONLY})"

    def _masks(self, seg: Dataset) -> npt.NDArray[np.bool_]:
        """Return each segment of a SEG, shape (n, k, j, i), its frames put on the series' slices by their positions."""
        masks = np.zeros((len(seg.SegmentSequence), *self.volume.array.shape), dtype=bool)
        to_voxel = np.linalg.inv(self.volume.affine)
        for frame in mask_frames(seg):
            k = round(float((to_voxel @ (*frame.position, 1.0))[2]))
            masks[frame.segment - 1, k] |= frame.mask
        return masks

    def previews(self, objects: Objects, folder: Path, study: str) -> list[Path]:
        """Write the fullest picture with outlines and the fullest of the maps, as PNG named after the study."""
        folder.mkdir(parents=True, exist_ok=True)
        series: dict[str, list[Path]] = {}
        for path in objects.get(PICTURE, []):
            ds = dcmread(path, stop_before_pixels=True)
            series.setdefault(f"{int(ds.SeriesNumber):010d} {ds.SeriesDescription}", []).append(path)
        written = []
        for key in sorted(series):
            if OUTLINES in key:
                shown = [*fullest_outlines(objects[SEGMENTATION][0], series[key]).values()][-1:]
            else:
                shown = most_lit_first(series[key])[:1]
            name = f"{study}-{self.name}-{'outlines' if OUTLINES in key else 'map'}.png"
            written += [write_png(path, folder / name) for path in shown]
        return written


@dataclass(frozen=True)
class Study:
    """One study of the phantom: its series share patient, study and frame of reference, as those of one session.

    Parameters
    ----------
    name : str
        A word for folders, tables and UIDs.
    series : tuple of Series
    day : str
        StudyDate (0008,0020).
    earlier : Study, optional
        Study of the same head that the PACS has already.
    new_lesions : int
        How many lesions have come since.
    """

    name: str
    series: tuple[Series, ...]
    day: str = "20260105"
    earlier: Study | None = None
    new_lesions: int = 0

    @property
    def uid(self) -> str:
        """Study Instance UID (0020,000D)."""
        return derived_uid(self.name, "study")

    @property
    def series_uids(self) -> tuple[str, ...]:
        """Series Instance UIDs (0020,000E)."""
        return tuple(derived_uid(self.name, "series", series.name) for series in self.series)

    def write(self, folder: Path) -> list[Path]:
        """Write the study as DICOM files."""
        study = {
            "StudyInstanceUID": self.uid,
            "StudyDate": self.day,
            "StudyDescription": "Phantom, no patient",
            "AccessionNumber": f"DEMO-{self.day}",
        }
        paths = []
        for number, (series, uid) in enumerate(zip(self.series, self.series_uids, strict=True), start=1):
            paths += write_series(
                series.volume,
                folder / self.name / series.name,
                patient=PATIENT,
                study=study,
                attributes={**series.volume.attributes, "SeriesInstanceUID": uid},
                series_number=number,
                seed=self.name,
            )
        return paths

    def judged(self, objects: Objects) -> tuple[bool, str]:
        """Return whether one page speaks of all series, and what it says first."""
        texts, pages = objects.get(TEXT, []), objects.get(PICTURE, [])
        if len(texts) != 1 or len(pages) != 1:
            return False, f"{len(pages)} pages came back, and {len(texts)} as text, for one study"
        text = dcmread(texts[0])
        (evidence,) = text.CurrentRequestedProcedureEvidenceSequence
        spoken_of = {item.SeriesInstanceUID for item in evidence.ReferencedSeriesSequence}
        said = impression(text)
        return spoken_of.issuperset(self.series_uids) and self.change_told in said, said

    @property
    def change_told(self) -> str:
        """Beginning of the sentence on what has changed; empty where there is nothing to compare with."""
        if self.earlier is None:
            return ""
        day = f"{self.earlier.day[:4]}-{self.earlier.day[4:6]}-{self.earlier.day[6:]}"
        return f"{self.new_lesions} new lesion{'' if self.new_lesions == 1 else 's'} since {day}"

    def page(self, objects: Objects, folder: Path) -> list[Path]:
        """Write the page as PNG."""
        folder.mkdir(parents=True, exist_ok=True)
        return [write_png(path, folder / f"{self.name}-page.png") for path in objects.get(PICTURE, [])]


def moved(volume: Volume, by_lps: Point) -> Volume:
    """Return a volume in another place: ``by_lps`` further, mm."""
    affine = volume.affine.copy()
    affine[:3, 3] += by_lps
    return replace(volume, affine=affine)


def by_block(paths: Iterable[Path]) -> dict[str, dict[str, list[Path]]]:
    """Return objects by the pipeline whose block their series numbers lie in, "" for the whole study, and by SOP class.

    Those of a comparison lie behind the others of their block.
    """
    names = {0: "", **{first: pipeline for pipeline, first in BLOCKS.items() if pipeline != CHANGE}}
    found: dict[str, dict[str, list[Path]]] = {name: {} for name in (*names.values(), CHANGE)}
    for path in paths:
        header = dcmread(path, stop_before_pixels=True)
        block, place = divmod(int(header.SeriesNumber) % 100, BLOCK)
        name = names[block * BLOCK]
        if block * BLOCK == BLOCKS[CHANGE] and place >= PLACES["change-seg"][0]:
            name = CHANGE
        found[name].setdefault(str(header.SOPClassUID), []).append(path)
    return found


def impression(text: Dataset) -> str:
    """Return the first paragraph of a text report, on one line."""
    for container in text.ContentSequence:
        for item in container.get("ContentSequence") or ():
            if container.ValueType == "CONTAINER" and item.ValueType == "TEXT":
                return " ".join(str(item.TextValue).split())
    return ""


def sides_judged(report: Dataset) -> dict[str, bool]:
    """Return, from a TID 1500 report, the sides for which it states a probability, and whether it finds a lesion there."""
    names = {code.value: side for side, code in codes.LATERALITY.items()}
    sides: dict[str, bool] = {}
    for container in report.ContentSequence:
        if container.ValueType != "CONTAINER":
            continue
        for group in container.ContentSequence:
            items = list(group.get("ContentSequence") or ())
            if not any(_name(item) == codes.PROBABILITY.value for item in items):
                continue
            present = any(
                item.ValueType == "CODE" and item.ConceptCodeSequence[0].CodeValue == codes.PRESENT.value
                for item in items
            )
            for item in items:
                for modifier in item.get("ContentSequence") or ():
                    if modifier.ValueType == "CODE" and modifier.ConceptCodeSequence[0].CodeValue in names:
                        sides[names[modifier.ConceptCodeSequence[0].CodeValue]] = present
    return sides


def _name(item: Dataset) -> str:
    concept = item.get("ConceptNameCodeSequence")
    return str(concept[0].CodeValue) if concept else ""
