"""Comparability of two acquisitions: a grade with its reasons, and both side by side.

A: same scanner model, field, 2D or 3D, plane, thickness and contrast state; echo, inversion and repetition time within 10 %.
B: thickness (up to one and a half times), times, model or software differ, or the headers do not say. C: of different kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipelines.comparison import AcquisitionRow, Comparability, Grade
from pipelines.stages import attribute
from pipelines.types import Volume

SAME = 0.10
"""Relative difference up to which two numbers are alike."""
MOST_THICKER = 1.5005
"""Headers and positions state distances in decimal digits."""
_NOT_STATED = "not stated"
_PLANES = ("sagittal", "coronal", "axial")
_CONTRAST_WORDS = frozenset(
    ("gd", "gad", "gado", "km", "post", "ce", "+c", "+gd", "+km", "contrast", "kontrast")
)
_NO_CONTRAST = frozenset(("", "no", "none", "not", "0", "without", "nativ", "native"))
_FAT_WORDS = frozenset(("fs", "fatsat", "fat_sat", "spir", "spair", "sfs"))


@dataclass(frozen=True)
class Acquisition:
    """One series as far as its comparability goes.

    Parameters
    ----------
    attributes : mapping of str to object
        Values of its headers, by DICOM keyword.
    plane : str
        "sagittal", "coronal" or "axial"; "" where it is not known.
    slice_mm : float or None
        Distance of its slices; None where it is not known.
    is_whole : bool
        False of an archive's answer: that it names no contrast agent or fat suppression does not say that there was none.
    """

    attributes: Mapping[str, object] = field(default_factory=dict)
    plane: str = ""
    slice_mm: float | None = None
    is_whole: bool = True


def acquisition_of(volume: Volume) -> Acquisition:
    """Return the acquisition of a volume."""
    return Acquisition(volume.attributes, plane_across(volume.affine[:3, 2]), volume.spacing_mm[0])


def plane_across(normal: npt.ArrayLike) -> str:
    """Return the plane that slices are nearest to, by the direction across them in LPS, shape (3,)."""
    return _PLANES[int(np.argmax(np.abs(np.asarray(normal))))]


def is_after_contrast(attributes: Mapping[str, object]) -> bool:
    """Tell whether contrast agent was given, by the header or by the name of the series."""
    agent = str(attributes.get("ContrastBolusAgent") or "").strip().casefold()
    words = _words(attributes, "SeriesDescription", "ProtocolName")
    return agent.split(" ")[0] not in _NO_CONTRAST or bool(words & _CONTRAST_WORDS)


def is_fat_suppressed(attributes: Mapping[str, object]) -> bool:
    """Tell whether fat was suppressed, by the options of the sequence or by the name of the series."""
    selected = str(attributes.get("SpectrallySelectedSuppression") or "").upper()
    options = attributes.get("ScanOptions")
    listed = options if isinstance(options, list | tuple) else (options,)
    if "FAT" in selected or any(str(option).upper() in ("FS", "FATSAT", "SFS") for option in listed):
        return True
    return bool(_words(attributes, "SeriesDescription", "ProtocolName", "SequenceName") & _FAT_WORDS)


def _words(attributes: Mapping[str, object], *keywords: str) -> set[str]:
    text = " ".join(str(attributes.get(keyword) or "") for keyword in keywords).casefold()
    return set(re.split(r"[\s_\-/.,()*]+", text))


def _text(attributes: Mapping[str, object], keyword: str) -> str:
    value = attributes.get(keyword)
    if isinstance(value, list | tuple):
        return " ".join(str(part) for part in value)
    return str(value).strip() if value is not None else ""


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= SAME * max(abs(one), abs(other))


class _Table:
    """Table under construction, with the reasons against a better grade."""

    def __init__(self, current: Acquisition, prior: Acquisition) -> None:
        self.both = current, prior
        self.attributes = current.attributes, prior.attributes
        self.rows: list[AcquisitionRow] = []
        self.unknown: list[str] = []

    def texts(self, name: str, values: Sequence[str], reasons: list[str], *, needed: bool = False) -> None:
        """Add a row of words; a row that is needed is asked for even where neither header has it."""
        current, prior = values
        self._add(name, current, prior, bool(current and prior) and current != prior, reasons)
        if bool(current) != bool(prior) or (needed and not current):
            self.unknown.append(name)

    def numbers(
        self,
        name: str,
        values: Sequence[float | None],
        unit: str,
        reasons: list[str],
        *,
        needed: bool = False,
    ) -> None:
        """Add a row of numbers that are alike within 10 %."""
        current, prior = values
        differs = current is not None and prior is not None and not _alike(current, prior)
        one, other = (f"{value:.4g} {unit}" if value is not None else "" for value in values)
        self._add(name, one, other, differs, reasons)
        if (current is None) != (prior is None) or (needed and current is None):
            self.unknown.append(name)

    def header_texts(self, name: str, keyword: str, reasons: list[str], *, needed: bool = False) -> None:
        """Add a row of words of the headers."""
        self.texts(name, [_text(of, keyword) for of in self.attributes], reasons, needed=needed)

    def header_numbers(
        self, name: str, keyword: str, unit: str, reasons: list[str], *, needed: bool = False
    ) -> None:
        """Add a row of numbers of the headers."""
        values = [attribute(of, keyword) for of in self.attributes]
        self.numbers(name, values, unit, reasons, needed=needed)

    def answers(self, name: str, asked: Callable[[Mapping[str, object]], bool], reasons: list[str]) -> None:
        """Add a row of yes and no."""
        answers = ["yes" if asked(of.attributes) else "no" if of.is_whole else "" for of in self.both]
        self.texts(name, answers, reasons)

    def _add(self, name: str, current: str, prior: str, differs: bool, reasons: list[str]) -> None:
        self.rows.append(AcquisitionRow(name, current or _NOT_STATED, prior or _NOT_STATED, differs))
        if differs:
            reasons.append(f"the {name} differs")


def compare_acquisitions(current: Acquisition, prior: Acquisition) -> Comparability:
    """Return grade A, B or C with its reasons; D is told by what can't be aligned."""
    slight: list[str] = []
    different: list[str] = []
    table = _Table(current, prior)
    makers = [_text(of, "Manufacturer").split(" ")[0].upper() for of in table.attributes]
    table.texts("manufacturer", makers, different)
    table.header_texts("scanner model", "ManufacturerModelName", slight, needed=True)
    table.header_numbers("field strength", "MagneticFieldStrength", "T", different, needed=True)
    table.header_texts("acquisition", "MRAcquisitionType", different, needed=True)
    table.texts("plane", (current.plane, prior.plane), different)
    distances = current.slice_mm, prior.slice_mm
    thinner, thicker = (choose((one for one in distances if one), default=1.0) for choose in (min, max))
    reasons = slight if thicker <= MOST_THICKER * thinner else different
    table.numbers("slice distance", distances, "mm", reasons)
    table.header_numbers("slice thickness", "SliceThickness", "mm", slight)
    table.header_numbers("echo time", "EchoTime", "ms", slight)
    table.header_numbers("inversion time", "InversionTime", "ms", slight)
    table.header_numbers("repetition time", "RepetitionTime", "ms", slight)
    table.answers("contrast agent", is_after_contrast, different)
    table.answers("fat suppression", is_fat_suppressed, different)
    table.header_texts("software version", "SoftwareVersions", slight)
    unknown = [f"not stated in the headers: {', '.join(table.unknown)}"] if table.unknown else []
    told = (*different, *slight, *unknown)
    grade: Grade = "C" if different else "B" if told else "A"
    return Comparability(grade, told, tuple(table.rows), tuple(different))
