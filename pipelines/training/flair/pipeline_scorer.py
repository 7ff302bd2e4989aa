"""The FLAIR pipeline as it runs in the node, scored on a data set: its own brain mask, N4 and registration, native voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from pipelines.errors import DataSetError, WeightsError
from pipelines.flair.differential import class_name
from pipelines.flair.pipeline import load_flair
from pipelines.flair.settings import JOINT_WEIGHTS, MASK_WEIGHTS, default_settings, weights_used
from pipelines.training.cards import seen_patients
from pipelines.training.data_sets.cases import PSEUDO_LABELLED, Entry, nifti_values, read_nifti, read_on_grid
from pipelines.training.data_sets.cube import lps_affine
from pipelines.training.scoring.case_results import CaseResult
from pipelines.training.scoring.metrics import NOT_DEFINED, SMALLEST_MM3, score_mask
from pipelines.types import BoolArray, Findings, FloatArray, Volume
from pipelines.weights import FOLDER

HALF = 0.5
"""Share of a thick voxel from which it is lesion in truth."""


class PipelineScorer:
    """The pipeline with its weights and default settings, ready to score cases.

    Parameters
    ----------
    folder : Path
        Of the weights.
    device : str
        "cpu", "cuda:0".

    Raises
    ------
    WeightsError
        The folder has not the weights of a pipeline, for instance those of one training alone.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        if not (folder / f"{JOINT_WEIGHTS}.json").is_file():
            raise WeightsError(
                f"{folder} has no weights of {JOINT_WEIGHTS}, without which there is no pipeline; put yours into a copy of "
                f"{FOLDER}"
            )
        self.weights = list(weights_used(folder))
        self._pipeline = load_flair(device, folder)
        drawing = [name for name in self.weights if name in MASK_WEIGHTS] or self.weights
        self._seen = {patient for name in drawing for patient in seen_patients(name, folder)}

    def score(self, entry: Entry, degrade: Sequence[float] = ()) -> CaseResult:
        """Score a case on its own voxels, and in axial slices that are averaged from its own.

        A thickness that the case's slices have already is left out. In thick slices a voxel is lesion where half of it is.
        A brain mask of the data set is not used: the pipeline finds its own.

        Parameters
        ----------
        degrade : sequence of float
            Slice thicknesses in mm.

        Raises
        ------
        DataSetError
            Its files cannot be read, or the lesions are not on the grid of the FLAIR.
        """
        volume, truth = _upright(entry)
        if entry.origin == PSEUDO_LABELLED:
            truth = None
        findings = self._said(volume)
        scores, degraded, refused = None, {}, [findings.reason]
        if truth is not None:
            scores = None if findings.reason else _scored(findings, volume, truth)
            for thickness in (mm for mm in degrade if mm > volume.spacing_mm[0]):
                thick = in_thick_slices(volume, thickness)
                share = in_thick_slices(replace(volume, array=truth.astype(np.float32)), thickness)
                said = self._said(thick)
                if said.reason:
                    refused.append(f"at {thickness:g} mm slices: {said.reason}")
                else:
                    degraded[thickness] = _scored(said, thick, share.array >= HALF)
        found_ml = float(_mask(findings, volume).sum() * volume.voxel_volume_mm3 / 1000)
        opinions = _opinions(findings)
        return CaseResult(
            case=entry.case,
            patient=entry.patient,
            label=entry.label,
            origin=entry.origin,
            seen=entry.patient in self._seen,
            scores=scores,
            nmosd=next(iter(opinions.values()), None),
            opinions=opinions,
            found_ml=None if findings.reason else found_ml,
            degraded=degraded,
            refused="; ".join(filter(None, refused)),
        )

    def _said(self, volume: Volume) -> Findings:
        return self._pipeline(volume, default_settings(), _silent)


def in_thick_slices(volume: Volume, thickness_mm: float) -> Volume:
    """Return a volume in thicker slices without gaps, each the mean over what it covers; the rest at both ends is cut off.

    Parameters
    ----------
    thickness_mm : float
        More than the distance of the volume's slices.

    Raises
    ------
    DataSetError
        Fewer than two slices would remain.
    """
    own_mm, count = volume.spacing_mm[0], len(volume.array)
    step = thickness_mm / own_mm
    slices = int(count / step)
    if slices < 2:
        raise DataSetError(f"{count} slices of {own_mm:g} mm do not make two of {thickness_mm:g} mm")
    first = (count - slices * step) / 2
    borders = first + step * np.arange(slices + 1)
    lower, upper = borders[:-1, None], borders[1:, None]
    covered = np.minimum(np.arange(count) + 1, upper) - np.maximum(np.arange(count), lower)
    weights = (np.clip(covered, 0, None) / step).astype(np.float32)
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (first + step / 2 - 0.5)
    affine[:3, 2] *= step
    return Volume(np.tensordot(weights, volume.array, axes=1), affine, volume.attributes)


def _upright(entry: Entry) -> tuple[Volume, BoolArray | None]:
    """Return FLAIR and lesions with slices that follow each other towards Superior."""
    flair = read_nifti(entry.flair)
    upright = _towards_superior(flair, entry.flair)
    volume = Volume(_slices(upright), lps_affine(upright.affine))
    if entry.lesions is None:
        return volume, None
    mask = read_on_grid(entry.lesions, flair, entry.flair)
    return volume, _slices(_towards_superior(mask, entry.lesions)) > 0


def _towards_superior(image: nib.nifti1.Nifti1Image, path: Path) -> nib.nifti1.Nifti1Image:
    """Return a volume that was read from ``path`` with axes towards Right, Anterior and Superior, its values in memory."""
    return nib.as_closest_canonical(nib.nifti1.Nifti1Image(nifti_values(image, path), image.affine))


def _slices(upright: nib.nifti1.Nifti1Image) -> FloatArray:
    """Return the values, shape (k, j, i)."""
    return np.ascontiguousarray(np.asarray(upright.dataobj, dtype=np.float32).T)


def _mask(findings: Findings, volume: Volume) -> BoolArray:
    """Return all segments together: one for each region with lesions, or one."""
    masks = [segment.mask for segment in findings.segments]
    return np.logical_or.reduce(masks) if masks else np.zeros(volume.array.shape, bool)


def _scored(findings: Findings, volume: Volume, truth: BoolArray) -> dict[str, float]:
    """Return scores of the mask, of the volume's interval (its ends, 1 where it holds the truth, else 0) and of the lesions."""
    scores = score_mask(_mask(findings, volume), truth, volume.spacing_mm).as_dict()
    stated = [item.interval for item in findings.measurements if item.code == "volume" and item.interval]
    low_ml = high_ml = within = NOT_DEFINED
    for interval in stated:
        low_ml, high_ml = round(interval.low / 1000, 4), round(interval.high / 1000, 4)
        within = float(low_ml <= scores["truth_ml"] <= high_ml)
    stated_ml = {"interval_low_ml": low_ml, "interval_high_ml": high_ml, "interval_holds_truth": within}
    return scores | stated_ml | _lesion_scores(findings, truth)


def _lesion_scores(findings: Findings, truth: BoolArray) -> dict[str, float]:
    """Return how many lesions are listed, of 10 mm3 and more, true by their probabilities, and true by a shared voxel."""
    touched: set[int] = set()
    if findings.labels is not None:
        touched.update(np.unique(findings.labels[truth]).tolist())
    return {
        "lesions": float(len(findings.lesions)),
        "lesions_sized": float(sum(lesion.volume_mm3 >= SMALLEST_MM3 for lesion in findings.lesions)),
        "lesions_said": round(sum(lesion.probability for lesion in findings.lesions), 4),
        "lesions_true": float(sum(lesion.id in touched for lesion in findings.lesions)),
    }


def _opinions(findings: Findings) -> dict[str, float]:
    """Return the probability of NMOSD by each network that tells one."""
    return {said.model: said.probability for said in findings.hypotheses if class_name(said) == "NMOSD"}


def _silent(*_: object) -> None:
    """Take the pipeline's progress and say nothing."""
