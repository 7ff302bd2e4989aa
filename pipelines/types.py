"""Input and output of a pipeline: numpy arrays and dataclasses only.

Array axes are (k, j, i): slice, row, column. Points and affines are in the DICOM patient frame, LPS, in mm
(PS3.3 C.7.6.2.1.1). ``affine @ (i, j, k, 1)`` is the centre of voxel ``array[k, j, i]``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Affine = npt.NDArray[np.float64]
Point = tuple[float, float, float]

Status = Literal["findings", "none", "unsuitable", "failed"]
Laterality = Literal["left", "right"]
Provenance = Literal["real", "synthetic", "real and synthetic"]
SiteStatus = Literal["positive", "negative", "not analysed"]
Region = Literal[
    "periventricular", "juxtacortical", "infratentorial", "deep_white_matter", "deep_grey_matter"
]
"""Regions that lesions are sorted into, in the order of reports; "juxtacortical" is juxtacortical or cortical."""
Located = Literal["automatic", "manual"]
Task = Literal["mask", "regions", "intervals", "differential"]
"""Kinds of result that models are asked for; "intervals": those of the volume and of each lesion's probability."""


@dataclass(frozen=True)
class Volume:
    """One image volume on its native grid.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
        Intensities after the modality LUT (RescaleSlope, RescaleIntercept).
    affine : float64 array, shape (4, 4)
        Voxel (i, j, k, 1) to patient position, mm, LPS.
    attributes : mapping of str to object
        Acquisition values under their DICOM keywords (InversionTime, EchoTime, SliceThickness, ...), as numbers, strings
        or tuples of these. No patient identification.
    """

    array: FloatArray
    affine: Affine
    attributes: Mapping[str, object] = field(default_factory=dict)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along k, j and i, in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(k), float(j), float(i)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of a voxel, in mm3."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    def position_lps(self, kji: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return patient positions, mm, LPS, shape (..., 3), of voxel indices (k, j, i), shape (..., 3)."""
        ijk = np.asarray(kji, dtype=np.float64)[..., ::-1]
        return np.asarray(ijk @ self.affine[:3, :3].T + self.affine[:3, 3])


@dataclass(frozen=True)
class Segment:
    """One class of finding as a mask on the native grid.

    Parameters
    ----------
    name : str
        What a reader calls it ("Lesion").
    code : str
        Key into the node's table of codes ("lesion_of_brain").
    mask : bool array, shape (k, j, i)
    probability : float32 array, shape (k, j, i), or None
        In [0, 1] on the native grid.
    colour_rgb : three integers in 0..255
        Recommended display colour.
    region : Region or None
        Where all of its lesions lie.
    """

    name: str
    code: str
    mask: BoolArray
    probability: FloatArray | None = None
    colour_rgb: tuple[int, int, int] = (255, 64, 64)
    laterality: Laterality | None = None
    region: Region | None = None


@dataclass(frozen=True)
class Interval:
    """Between which values a number lies when the analysis is varied, or the truth lay in cases where it is known.

    Not a confidence interval for a patient: the truth may well lie outside. It always holds the number itself.

    Parameters
    ----------
    low, high : float
        In the unit of the number.
    basis : str
        What was varied, or in how many cases it held the truth, to stand behind the values ("over 4 predictions").
    """

    low: float
    high: float
    basis: str


@dataclass(frozen=True)
class Lesion:
    """A 26-connected component of a segment on the native grid that counts as a lesion (`Counting`).

    Parameters
    ----------
    probability : float
        That an expert would draw it, where that is calibrated; else the mean over its voxels.
    region : Region or None
        Where it lies; None where the regions are not available.
    probability_interval : Interval or None
        How far the probability moves with the patients that it was calibrated on, or the lowest and highest mean that single
        predictions give; None where there is but one prediction.
    laterality : "left", "right" or None
        The patient's side; None for a lesion on the midline, and where the regions are not available.
    long_axis_mm : float or None
        Largest distance of two voxel corners in one slice.
    also_reaches : tuple of Region
        Regions that it touches beside its own.
    borderline : bool
        Its region would be another one at half or at twice the tolerance.
    """

    id: int
    segment: str
    volume_mm3: float
    centre_lps: Point
    probability: float
    slices_k: tuple[int, int]
    region: Region | None = None
    change: str | None = None
    probability_interval: Interval | None = None
    laterality: Laterality | None = None
    long_axis_mm: float | None = None
    also_reaches: tuple[Region, ...] = ()
    borderline: bool = False


@dataclass(frozen=True)
class RegionLoad:
    """Lesions of one region, confluent ones counted by their parts.

    Parameters
    ----------
    region : Region
    lesions : int
        Number of lesions, those at its border included.
    borderline : int
        How many of them are borderline.
    volume_mm3 : float
        Of these lesions together.
    long_axis_mm : float
        The largest; 0 without lesions.
    """

    region: Region
    lesions: int
    borderline: int
    volume_mm3: float
    long_axis_mm: float


@dataclass(frozen=True)
class Anatomy:
    """Regions of one image, as far as they are known.

    Parameters
    ----------
    loads : tuple of RegionLoad
        One for each region, in the order of `Region`; empty where the regions are not available.
    not_covered : tuple of Region
        Regions that the field of view cuts off.
    not_available : str
        Why there are no regions, in one line; empty where there are.
    """

    loads: tuple[RegionLoad, ...] = ()
    not_covered: tuple[Region, ...] = ()
    not_available: str = ""


@dataclass(frozen=True)
class Counting:
    """Rule by which a connected region counted as a lesion, in the figures of one volume, and what it left out.

    Parameters
    ----------
    long_axis_mm : float
        Least long axis in the plane of the slices.
    volume_mm3 : float
        Least volume.
    probability : float
        Least mean probability.
    left_out : int
        Number of regions that did not count.
    left_out_mm3 : float
        Their total volume.
    """

    long_axis_mm: float
    volume_mm3: float
    probability: float
    left_out: int
    left_out_mm3: float


@dataclass(frozen=True)
class Measurement:
    """A number with its code key, unit (UCUM) and, where it has them, site and derivation code keys and an interval."""

    code: str
    value: float
    unit: str
    laterality: Laterality | None = None
    region: str | None = None
    derivation: str | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class SiteFinding:
    """Finding of a classifier about one side's structure, or the reason why there is none.

    Parameters
    ----------
    laterality : "left" or "right"
        The patient's.
    status : "positive", "negative" or "not analysed"
        Positive: the probability is at or above the threshold.
    reason : str
        Why the side was not analysed, in one line.
    probability : float or None
        Of a lesion, in [0, 1]; None, as all that follows, where the side was not analysed.
    interval : Interval or None
        The lowest and highest probability that single members of the ensemble give.
    threshold : float or None
        The probability from which the side is positive.
    coverage : float or None
        Share, in [0, 1], of the structure's course, as far as it was followed, that the network saw.
    saliency_share : float or None
        Share, in [0, 1], of the saliency that lies inside the structure.
    located : "automatic", "manual" or None
        Who found the place: the node, or a person who gave a point.
    point_lps : Point or None
        A point of the structure, mm, LPS, where it was found.
    site : str
        Code key of the structure.
    """

    laterality: Laterality
    status: SiteStatus
    reason: str = ""
    probability: float | None = None
    interval: Interval | None = None
    threshold: float | None = None
    coverage: float | None = None
    saliency_share: float | None = None
    located: Located | None = None
    site: str = "optic_nerve"
    point_lps: Point | None = None


@dataclass(frozen=True)
class Hypothesis:
    """The probability, in [0, 1], that a model gives to a disease (code key).

    ``calibrated``: scaled by a temperature that was fitted on held-out cases of the kind that the model was trained on.
    """

    code: str
    name: str
    probability: float
    calibrated: bool
    model: str


@dataclass(frozen=True)
class Criterion:
    """One condition of a rule, in words, and the IDs of the lesions that meet it; none: not met."""

    name: str
    lesions: tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """A published rule on where lesions lie, and what it says of these.

    Parameters
    ----------
    name, source : str
        What it is called and where it is published.
    disease : str
        The disease that it points to as soon as one criterion is met.
    criteria : tuple of Criterion
        All of them, met or not.
    """

    name: str
    source: str
    disease: str
    criteria: tuple[Criterion, ...]

    @property
    def met(self) -> bool:
        """True when any criterion is met."""
        return any(criterion.lesions for criterion in self.criteria)


@dataclass(frozen=True)
class NotTypical:
    """Sign by which findings are not like demyelination.

    Parameters
    ----------
    name : str
        Short, always the same ("midline shift").
    sign : str
        In words ("third ventricle off the midline").
    value : float
        Measured.
    unit : str
        UCUM, or "mL".
    limit : float
        The value that it is above.
    """

    name: str
    sign: str
    value: float
    unit: str
    limit: float


@dataclass(frozen=True)
class Heatmap:
    """A map of what drove a decision.

    Parameters
    ----------
    name : str
        "localisation map", "Grad-CAM", ...
    method : str
        One sentence with the source of the method.
    class_name : str
        The class that the map explains ("MS").
    probability : float or None
        That class's probability.
    values : float32 array, shape (k, j, i)
        In [0, 1] on the native grid.
    key_slices_k : tuple of int
        Slices that a reader should see, ascending.
    model : str
        Name of the model that is explained.
    outline : bool array, shape (k, j, i), or None
        The edge of what the model was shown, drawn as a line.
    laterality : "left", "right" or None
        The patient's side that the map explains.
    resolution_mm : float or None
        Distance between neighbouring values as the network gave them; None where it is about that of the voxels.
    """

    name: str
    method: str
    class_name: str
    probability: float | None
    values: FloatArray
    key_slices_k: tuple[int, ...]
    model: str
    outline: BoolArray | None = None
    laterality: Laterality | None = None
    resolution_mm: float | None = None


@dataclass(frozen=True)
class ModelCard:
    """Model card of the weights that were used: what ContributingEquipment and TID 4019 say of them.

    ``classes_trained_on`` says what the classes were learnt from, where that is not all of what the weights were trained on,
    ``undecided`` between which probabilities of a class (of MS, where it tells MS from NMOSD) the answer is none; without it no
    answer counts as decided.
    """

    name: str
    version: str
    digest: str
    device_uid: str
    trained_on: Provenance
    purpose: str
    classes_trained_on: Provenance | None = None
    undecided: tuple[float, float] | None = None


@dataclass(frozen=True)
class Percentile:
    """Place of the total lesion volume among those of a cohort of patients.

    Parameters
    ----------
    share : float
        Of the cohort that has less, in [0, 1].
    low, high : float
        The 95 % Wilson interval of that share.
    patients : int
        How many it was compared with.
    group, source : str
        Of whom the cohort is ("MS", "healthy"), and where it comes from.
    by_hand : bool
        The lesions of the cohort were outlined by hand, not measured by the pipeline.
    matched_years : int or None
        The cohort is of the patient's sex, and within so many years of age; None where it was not matched.
    """

    share: float
    low: float
    high: float
    patients: int
    group: str
    source: str
    by_hand: bool
    matched_years: int | None


@dataclass(frozen=True)
class Findings:
    """Findings of a pipeline in one volume.

    ``status`` is "findings" or "none" when the analysis ran, "unsuitable" when the input was refused and "failed" when the
    analysis broke; ``reason`` then says why, in one line. ``no_differential`` says why there are no hypotheses although
    there are lesions; ``rules`` stand beside the hypotheses, or in their place. ``sites`` hold one answer for each side, where
    a pipeline classifies sides instead of counting lesions. ``models`` are all that were asked, the one that drew the masks
    first; ``tasks`` names those behind each kind of result, and what no task names counts as behind all of them.
    ``counting`` says what counted as a lesion, where lesions are counted, and ``anatomy`` how they lie over the
    regions of the brain; None where a pipeline knows no regions. ``percentile`` is set by who knows the patient's age and sex,
    never by a pipeline. ``brain`` (bool), ``probability`` of a lesion (float32) and ``labels``, the lesions' IDs (int32), are
    arrays of shape (k, j, i) on the native grid that a comparison with another examination starts from; None where a pipeline
    is not compared. ``not_typical`` are the signs by which they are not like demyelination at all: then there are no
    hypotheses, and nothing is said of dissemination. Without any nothing follows.
    """

    status: Status
    reason: str = ""
    segments: tuple[Segment, ...] = ()
    lesions: tuple[Lesion, ...] = ()
    counting: Counting | None = None
    anatomy: Anatomy | None = None
    percentile: Percentile | None = None
    measurements: tuple[Measurement, ...] = ()
    sites: tuple[SiteFinding, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    no_differential: str = ""
    rules: tuple[Rule, ...] = ()
    not_typical: tuple[NotTypical, ...] = ()
    heatmaps: tuple[Heatmap, ...] = ()
    warnings: tuple[str, ...] = ()
    models: tuple[ModelCard, ...] = ()
    tasks: Mapping[Task, tuple[str, ...]] = field(default_factory=dict)
    timings_s: Mapping[str, float] = field(default_factory=dict)
    brain: BoolArray | None = None
    probability: FloatArray | None = None
    labels: npt.NDArray[np.int32] | None = None


Progress = Callable[[str, float], None]
"""Called as ``progress(stage, seconds)`` when a stage has ended."""


class Pipeline(Protocol):
    """One analysis, warm after its first call."""

    def __call__(self, volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        """Analyse one volume; raises nothing for unsuitable input, which is a status."""


@dataclass(frozen=True)
class PipelineInfo:
    """Facts of an installed pipeline that the node must know without loading it."""

    name: str
    title: str
    version: str
    weights_digest: str
    default_settings: Mapping[str, object] = field(default_factory=dict)
