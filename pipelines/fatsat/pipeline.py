"""The FAT-SAT pipeline: eyes, crops, ensemble, saliency; one answer for each optic nerve, each stage timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pipelines.device import limit_threads, resolve_device
from pipelines.fatsat.course import nerve_mask
from pipelines.fatsat.crop import Crop, crop_eye, normalised
from pipelines.fatsat.crop_grid import SEEN_PART
from pipelines.fatsat.ensemble import Ensemble, EnsembleAnswer
from pipelines.fatsat.explanation import CLASSES, Explanation, candidate_region, explained
from pipelines.fatsat.eyes import Eye, Eyes, find_eyes
from pipelines.fatsat.settings import CropKind, Settings, crop_used, settings_of
from pipelines.fatsat.suitability import (
    BEHIND_MIN_MM,
    check_contrast,
    check_geometry,
    check_protocol,
    reach_behind_mm,
)
from pipelines.memory import keep_freed_memory
from pipelines.stages import Run, Verdict
from pipelines.types import (
    Findings,
    Interval,
    Laterality,
    Progress,
    Segment,
    SiteFinding,
    Volume,
)
from pipelines.weights import FOLDER

SIDES: tuple[Laterality, ...] = ("right", "left")
"""As a radiologist sees them from left to right."""
NERVE, CANDIDATE = "optic nerve", "candidate region (salient part inside the nerve)"
"""What the segments are called: the second is no outline of a lesion, it is where the network looked in the nerve."""
NERVE_RGB, CANDIDATE_RGB = (64, 200, 255), (255, 64, 64)
COVERAGE_MIN = 0.75
"""Below this share of the nerve's course inside the crop the report warns."""
LOOK_MIN = 2.0
"""The saliency inside the nerve must be so many times what an even map would have there, else the report warns [ours]: the
paper proposes the share as a check and gives no limit."""


@dataclass(frozen=True)
class Answer:
    """Answer for one eye."""

    eye: Eye
    crop: Crop
    site: SiteFinding
    explanation: Explanation


@dataclass
class FatsatPipeline:
    """Tells, for each optic nerve of one coronal FAT-SAT series, how likely it has a lesion.

    Parameters
    ----------
    device : str
        A torch device.
    folder : Path
        Of the weights.
    ensembles : dict
        The networks by the crop that they were trained on; each is loaded when it is first asked, and stays warm.
    """

    device: str = "cpu"
    folder: Path = FOLDER
    ensembles: dict[CropKind, Ensemble] = field(default_factory=dict)

    def __call__(self, volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        """Analyse one volume; what cannot be analysed comes back as status "unsuitable" with its reason."""
        checked = settings_of(settings)
        run = Run(progress)
        if not run.suits(check_protocol(volume.attributes), check_geometry(volume)):
            return run.refusal()
        with run.stage("eyes"):
            eyes = find_eyes(volume, checked.points)
            missing = _missing(eyes, volume)
            seen = [eye for eye in eyes if eye.side not in missing]
        run.warnings.extend(eyes.warnings)
        if not run.suits(_any_eye(seen, missing), check_contrast(volume, list(eyes))):
            return run.refusal()
        return self._analyse(volume, eyes, seen, missing, checked, run)

    def _analyse(
        self,
        volume: Volume,
        eyes: Eyes,
        seen: Sequence[Eye],
        missing: Mapping[Laterality, str],
        settings: Settings,
        run: Run,
    ) -> Findings:
        kind = crop_used(settings.crop, self.folder)
        ensemble = self.ensemble(kind)
        threshold = ensemble.threshold if settings.threshold is None else settings.threshold
        with run.stage("crop"):
            crops = [crop_eye(volume, eyes, eye.side, kind) for eye in seen]
            inputs = np.stack([normalised(crop.values) for crop in crops])
        with run.stage("ensemble"), _one_thread():
            said = ensemble(inputs, settings.members)
        answers: dict[Laterality, Answer] = {}
        with run.stage("saliency"), _one_thread():
            for number, (eye, crop) in enumerate(zip(seen, crops, strict=True)):
                positive = _is_positive(float(said.probability[number]), threshold)
                told = explained(ensemble, inputs[number], crop, int(positive), settings.members)
                site = _site(eye, crop, said, number, threshold, told)
                answers[eye.side] = Answer(eye, crop, site, told)
        return _findings(volume, answers, missing, ensemble, run)

    def ensemble(self, kind: CropKind) -> Ensemble:
        """Return the networks of a crop, loaded once.

        Raises
        ------
        WeightsError
            They are not installed, or damaged.
        """
        if kind not in self.ensembles:
            self.ensembles[kind] = Ensemble(self.device, self.folder, crop=kind)
        return self.ensembles[kind]


def load_fatsat(device: str = "auto", folder: Path = FOLDER) -> FatsatPipeline:
    """Return the pipeline with the weights that ship.

    Raises
    ------
    PipelineError
        The weights are missing, damaged or of another network, or there is no such device.
    """
    device = resolve_device(device)
    limit_threads()
    if device == "cpu":
        keep_freed_memory()
    pipeline = FatsatPipeline(device, folder)
    pipeline.ensemble(crop_used(None, folder))
    return pipeline


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread inside: networks this small wait longer for each other than they compute.

    32 members with both maps of two eyes: 2 s of one core; with two threads on two busy cores 20 s.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _missing(eyes: Eyes, volume: Volume) -> dict[Laterality, str]:
    """Return why an eye cannot be analysed, by its side."""
    missing: dict[Laterality, str] = {}
    for side in SIDES:
        eye = eyes.of(side)
        if eye is None:
            missing[side] = eyes.missing.get(side) or f"no {side} eye was found"
            continue
        reach_mm = reach_behind_mm(volume, eye.junction_lps)
        if reach_mm < BEHIND_MIN_MM:
            missing[side] = (
                f"the series ends {max(reach_mm, 0):.0f} mm behind the {side} globe, and {BEHIND_MIN_MM:g} mm are needed"
            )
    return missing


def _any_eye(seen: Sequence[Eye], missing: Mapping[Laterality, str]) -> Verdict:
    """Refuse a series without an eye that can be analysed."""
    if seen:
        return Verdict()
    return Verdict(f"no eye can be analysed: {'; '.join(dict.fromkeys(missing.values()))}")


def _is_positive(probability: float, threshold: float) -> bool:
    """Compare as the reports state both, with three decimals."""
    return round(probability, 3) >= round(threshold, 3)


def _site(
    eye: Eye, crop: Crop, said: EnsembleAnswer, number: int, threshold: float, told: Explanation
) -> SiteFinding:
    """Return the answer for one eye; ``number`` is its place in the batch."""
    members = said.members[:, number]
    probability = float(said.probability[number])
    interval = None
    if len(members) > 1:
        low, high = min(float(members.min()), probability), max(float(members.max()), probability)
        interval = Interval(low, high, f"over {len(members)} networks")
    return SiteFinding(
        laterality=eye.side,
        status="positive" if _is_positive(probability, threshold) else "negative",
        probability=probability,
        interval=interval,
        threshold=threshold,
        coverage=crop.coverage,
        saliency_share=told.share,
        located=eye.source,
        point_lps=eye.junction_lps,
    )


def _findings(
    volume: Volume,
    answers: Mapping[Laterality, Answer],
    missing: Mapping[Laterality, str],
    ensemble: Ensemble,
    run: Run,
) -> Findings:
    """Put together what is said of both eyes, right first."""
    shown = [answers[side] for side in SIDES if side in answers]
    sites = tuple(
        answers[side].site if side in answers else SiteFinding(side, "not analysed", missing[side])
        for side in SIDES
    )
    warnings = [*run.warnings, *(text for answer in shown for text in _doubts(answer))]
    return Findings(
        status="findings" if any(site.status == "positive" for site in sites) else "none",
        segments=tuple(segment for answer in shown for segment in _segments(answer, volume)),
        sites=sites,
        heatmaps=tuple(
            heatmap
            for answer in shown
            for heatmap in answer.explanation.heatmaps(answer.site, volume, ensemble.card.name)
        ),
        warnings=tuple(warnings),
        models=(ensemble.card,),
        timings_s=run.timings_s,
    )


def _segments(answer: Answer, volume: Volume) -> list[Segment]:
    """Return, for a positive eye, its nerve and the candidate region in it."""
    if answer.site.status != "positive":
        return []
    side = answer.eye.side
    nerve = nerve_mask(volume, answer.eye.course_lps)
    candidate = candidate_region(answer.explanation.evidence, answer.crop, volume, nerve)
    segments = [
        Segment(NERVE, "optic_nerve", nerve, colour_rgb=NERVE_RGB, laterality=side),
        Segment(CANDIDATE, "lesion", candidate, colour_rgb=CANDIDATE_RGB, laterality=side),
    ]
    return [segment for segment in segments if segment.mask.any()]


def _doubts(answer: Answer) -> list[str]:
    """Return what speaks against trusting the answer for one eye."""
    name, doubts = f"{answer.eye.side.capitalize()} optic nerve", []
    even = float(answer.crop.nerve[SEEN_PART].mean())
    coverage = answer.crop.coverage
    if coverage is not None and coverage < COVERAGE_MIN:
        doubts.append(
            f"{name}: only {100 * coverage:.0f} % of its course lies in the region that the network saw"
        )
    if answer.explanation.share < LOOK_MIN * even:
        doubts.append(
            f"{name}: the network looks elsewhere, only {100 * answer.explanation.share:.0f} % of the saliency for "
            f'"{CLASSES[answer.explanation.cls]}" lies inside the nerve, which is {100 * even:.0f} % of what it saw'
        )
    return doubts
