"""Interval of the lesion volume that the FLAIR pipeline states, fitted on cases with known lesions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.device import resolve_device
from pipelines.errors import DataSetError
from pipelines.flair.lesions import lesion_volume_mm3
from pipelines.flair.segmenter import MaskModel
from pipelines.flair.settings import settings_of
from pipelines.flair.volume_calibration import (
    CARD_KEY,
    LEVEL,
    VolumeCalibration,
    bounds,
    faint_volume_mm3,
    fit_lines,
)
from pipelines.training.cards import seen_patients, write_cards
from pipelines.training.data_sets.cases import PSEUDO_LABELLED, load_case, read_index
from pipelines.training.flair.export import INPUTS
from pipelines.training.synthetic.priors import VOXEL_MM3
from pipelines.weights import FOLDER, card_details

MIN_CASES = 30
"""[ours] Below them three cases or less lie outside each line."""
MIN_PATIENTS = 3
SMALLEST_MM3 = 100.0
"""Cases with less in the mask or in truth say nothing of a ratio."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class _Case:
    """Volumes of one case, mm3."""

    patient: str
    origin: str
    truth: float
    reported: float
    faint: float


def calibrate_volume(
    data: Path, *, weights: Path | None = None, device: str = "auto", progress: Report = print
) -> dict[str, float]:
    """Fit the interval of the total lesion volume on a data set, and write it on the card of the first network.

    The networks are asked as the pipeline asks them by default for thin slices, which the cases on the cube stand for.
    Neither their weights nor the volume that is reported change.

    Parameters
    ----------
    data : Path
        Folder with ``index.csv``; its cases with known lesions of patients that no network has learnt from are taken.
    weights : Path, optional
        Folder of the weights; those that are installed by default.
    progress : callable
        Takes a line for each case.

    Returns
    -------
    dict
        ``cases``, ``held`` (the share whose truth the interval held with their patient left out of the fit), and ``width``
        (the median of its upper over its lower end).

    Raises
    ------
    DataSetError, WeightsError
        The data set is not as documented or has too few such cases or patients; there are no weights of the mask.
    """
    folder = weights or FOLDER
    settings = settings_of({})
    model = MaskModel(resolve_device(device), folder)
    seen = {patient for card in model.cards for patient in seen_patients(card.name, folder)}
    cases = []
    for entry in read_index(data):
        is_known = entry.lesions is not None and entry.ignore is None and entry.origin != PSEUDO_LABELLED
        if not is_known or entry.patient in seen:
            continue
        sample = load_case(entry).sample("none")
        answer = model(sample.image, members=settings.members, flips=settings.flips)
        mean, cards = answer.probability, answer.cards
        case = _Case(
            entry.patient,
            entry.origin,
            truth=float(sample.lesions.sum()) * VOXEL_MM3,
            reported=lesion_volume_mm3(mean >= settings.threshold, VOXEL_MM3),
            faint=faint_volume_mm3(mean, VOXEL_MM3),
        )
        progress(
            f"{entry.case}: {case.reported / 1000:.2f} mL reported, {case.faint / 1000:.2f} mL seen at all, "
            f"{case.truth / 1000:.2f} mL in truth"
        )
        if min(case.truth, case.reported) >= SMALLEST_MM3:
            cases.append(case)
    patients = np.array([case.patient for case in cases])
    if len(cases) < MIN_CASES or len(set(patients)) < MIN_PATIENTS:
        raise DataSetError(
            f"{data} has {len(cases)} cases of {len(set(patients))} patients that were not learnt from, with "
            f"{SMALLEST_MM3 / 1000:g} mL of lesions in truth and found; at least {MIN_CASES} of {MIN_PATIENTS} patients are "
            "needed"
        )
    u = np.log([max(case.faint, case.reported) / case.reported for case in cases])
    y = np.log([case.truth / case.reported for case in cases])
    held, widths = _left_out(u, y, patients)
    low, high = fit_lines(u, y)
    calibration = VolumeCalibration(
        low=low,
        high=high,
        largest=float(u.max()),
        level=LEVEL,
        held=float(np.mean(held)),
        cases=len(cases),
        origins=" and ".join(sorted({case.origin for case in cases})),
        digests={card.name: card.digest for card in cards},
        threshold=settings.threshold,
        flips=settings.flips,
    )
    first = model.cards[0].name
    details = card_details(first, folder)
    others = [
        one.as_card()
        for one in VolumeCalibration.all_of(details)
        if dict(one.digests) != dict(calibration.digests)
    ]
    write_cards(first, details | {CARD_KEY: [calibration.as_card(), *others]}, INPUTS["segmentation"], folder)
    return {"cases": len(cases), "held": calibration.held, "width": float(np.exp(np.median(widths)))}


def _left_out(
    u: npt.NDArray[np.float64], y: npt.NDArray[np.float64], patients: npt.NDArray[np.str_]
) -> tuple[list[bool], list[float]]:
    """Return for each case whether the interval held its truth, and the logarithm of how wide it was, its patient left out."""
    held, widths = [], []
    for patient in sorted(set(patients)):
        own = patients == patient
        low, high = fit_lines(u[~own], y[~own])
        for at, truth in zip(u[own], y[own], strict=True):
            below, above = bounds(low, high, min(at, float(u[~own].max())))
            held.append(bool(below <= truth <= above))
            widths.append(above - below)
    return held, widths
