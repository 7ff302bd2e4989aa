"""Studies that the demonstration sends, and the verdict on what came back, by the objects that belong to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread

from dicom_node.results.preview import fullest_outlines, mask_frames, most_lit_first, write_png
from dicom_node.results.series_list import PLACES, STUDY
from dicom_node.series.writer import write_series
from dicom_node.standard import codes
from pipelines.types import BoolArray, Laterality, Volume

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
MEASUREMENTS = "1.2.840.10008.5.1.4.1.1.88.34"
PICTURE = "1.2.840.10008.5.1.4.1.1.7"
EXPECTED = {
    SEGMENTATION: "SEG, mask",
    MEASUREMENTS: "SR, measurements (TID 1500)",
    "1.2.840.10008.5.1.4.1.1.88.11": "SR, report as text",
    PICTURE: "SC, outlines and maps",
}
"""SOP classes that must come back of every study of the demonstration."""
OUTLINES = PLACES["outline"][1]
"""Stands in the description of the series of outlines."""
PAGE = STUDY["summary"][1]
"""Stands in the descriptions of the series on a whole study."""
LEAST_DICE = 0.3
"""Overlap with the truth below which the demonstration fails: a wrong place or side gives 0, a chance mask below 0.05."""
PHANTOM_ONLY = "a phantom: it says nothing about patients"

Objects = Mapping[str, Sequence[Path]]
"""Paths of what came back of a study, by SOP class."""


@dataclass(frozen=True)
class Study:
    """One phantom study with its truth.

    Parameters
    ----------
    name : str
        A word for folders and tables ("flair").
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

    def write(self, folder: Path) -> list[Path]:
        """Write the study as DICOM files of a phantom that is no patient."""
        return write_series(
            self.volume,
            folder / self.name,
            patient={
                "PatientName": f"Phantom^{self.name.capitalize()}",
                "PatientID": f"PHANTOM-{self.name.upper()}",
                "PatientSex": "O",
            },
            study={
                "StudyDescription": "Phantom, no patient",
                "AccessionNumber": f"DEMO-{self.name.upper()}",
            },
            attributes=self.volume.attributes,
            seed=self.name,
        )

    def judged(self, objects: Objects) -> tuple[bool, str]:
        """Return whether the answer is right, and a line that says what it was."""
        segs = objects.get(SEGMENTATION, [])
        reports = [path for path in objects.get(MEASUREMENTS, []) if not _is_on_study(path)]
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
        """Return each segment of a SEG, shape (n, k, j, i), its frames put on the study's slices by their positions."""
        masks = np.zeros((len(seg.SegmentSequence), *self.volume.array.shape), dtype=bool)
        to_voxel = np.linalg.inv(self.volume.affine)
        for frame in mask_frames(seg):
            k = round(float((to_voxel @ (*frame.position, 1.0))[2]))
            masks[frame.segment - 1, k] |= frame.mask
        return masks

    def previews(self, objects: Objects, folder: Path) -> list[Path]:
        """Write the page, the fullest picture with outlines and the fullest of each map, as PNG."""
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
            name = "outlines" if OUTLINES in key else "page" if PAGE in key else "map"
            written += [write_png(path, folder / f"{self.name}-{name}.png") for path in shown]
        return written


def _is_on_study(path: Path) -> bool:
    """Tell whether an object is one on the whole study, not on one series."""
    header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesDescription"])
    return PAGE in str(header.get("SeriesDescription", ""))


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
