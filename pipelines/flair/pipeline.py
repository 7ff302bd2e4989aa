"""The FLAIR pipeline: brain mask, N4, MNI, joint network, findings; each stage timed and reported."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk
import torch
from torch.nn import functional

from pipelines.brain.mni_space import align_to_mni
from pipelines.device import resolve_device
from pipelines.errors import PipelineError
from pipelines.flair.joint.network import CLASSES, JointNetwork
from pipelines.flair.lesions import THRESHOLD, find_lesions, key_slices
from pipelines.flair.preprocess import Brain, Cube, find_brain, to_cube, to_native, without_bias
from pipelines.flair.suitability import (
    Verdict,
    check_brain,
    check_contrast,
    check_geometry,
    check_protocol,
)
from pipelines.types import (
    Findings,
    FloatArray,
    Heatmap,
    Hypothesis,
    Measurement,
    ModelCard,
    Progress,
    Segment,
    Volume,
)
from pipelines.weights import load_weights

WEIGHTS = "joint"
SEGMENT_NAME = "Lesion"
DISEASES = {
    "MS": ("multiple_sclerosis", "Multiple sclerosis"),
    "NMOSD": ("neuromyelitis_optica", "Neuromyelitis optica spectrum disorder"),
}
LOCALISATION_WEIGHTS = (0.25, 0.25, 0.5)
"""Of the maps at 20, 40 and 80 cubed: those that the network was trained with."""
LOCALISATION_METHOD = (
    "Class features weighted by the classifier's weights, at three scales (Front Neurosci 2024, "
    "10.3389/fnins.2024.1351387)."
)
PROBABILITY_METHOD = (
    "Probability of lesion at each voxel, from the segmentation branch (Front Neurosci 2024, "
    "10.3389/fnins.2024.1351387)."
)
"""Shown where nothing was found: a class of disease has nothing to explain there."""
MAX_THREADS = 16


@dataclass(frozen=True)
class NetworkAnswer:
    """What the joint network says of one cube.

    Parameters
    ----------
    lesion : float32 array, shape (160, 160, 160)
        Probability.
    classes : mapping of str to float
        Probabilities of MS and NMOSD; they add up to 1.
    localisation : float32 array, shape (160, 160, 160)
        In [0, 1] in the brain, 0 outside, for the more probable class.
    """

    lesion: FloatArray
    classes: Mapping[str, float]
    localisation: FloatArray


@dataclass
class _Run:
    """The stages of one analysis as they end."""

    progress: Progress
    timings_s: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reason: str = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings_s[name] = time.perf_counter() - start
        self.progress(name, self.timings_s[name])

    def suits(self, *verdicts: Verdict) -> bool:
        """Keep the warnings and the first reason; return whether there is none."""
        for verdict in verdicts:
            self.warnings.extend(verdict.warnings)
            if verdict.reason:
                self.reason = verdict.reason
                return False
        return True

    def refusal(self) -> Findings:
        """Return the answer to an input that does not suit."""
        return Findings("unsuitable", self.reason, warnings=tuple(self.warnings), timings_s=self.timings_s)


def limit_threads() -> int:
    """Let torch and SimpleITK use as many threads as torch finds processors, at most 16; return how many."""
    threads = min(torch.get_num_threads(), MAX_THREADS)
    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return threads


def threshold_of(settings: Mapping[str, object]) -> float:
    """Return the probability from which a voxel is lesion.

    Raises
    ------
    PipelineError
        A setting is unknown or out of range.
    """
    unknown = sorted(set(settings) - {"threshold"})
    if unknown:
        raise PipelineError(f'unknown setting "{unknown[0]}" of the flair pipeline; it has: threshold')
    value = settings.get("threshold", THRESHOLD)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        raise PipelineError(f"threshold of the flair pipeline must be between 0 and 1, not {value!r}")
    return float(value)


class FlairPipeline:
    """Finds MS and NMOSD lesions on one FLAIR volume.

    Parameters
    ----------
    network : JointNetwork
        With its weights.
    card : ModelCard
        Of these weights.
    device : str
        "auto", "cpu", "cuda", "cuda:1".
    """

    def __init__(self, network: JointNetwork, card: ModelCard, device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.card = card
        self._network = network.to(self.device).eval()
        limit_threads()

    def __call__(self, volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        """Analyse one volume; what cannot be analysed comes back as status "unsuitable" with its reason."""
        threshold = threshold_of(settings)
        run = _Run(progress)
        if not run.suits(check_protocol(volume.attributes), check_geometry(volume)):
            return run.refusal()
        return self._analyse(volume, threshold, run)

    def _analyse(self, volume: Volume, threshold: float, run: _Run) -> Findings:
        with run.stage("mask"):
            brain = find_brain(volume, self.device)
        if brain is None:
            run.suits(Verdict("no brain found"))
            return run.refusal()
        with run.stage("N4"):
            corrected = without_bias(brain)
        with run.stage("MNI"):
            alignment = align_to_mni(corrected, brain.mask, brain.grid)
            suits = run.suits(
                check_brain(brain.mask, brain.grid, alignment),
                check_contrast(corrected, brain.mask, brain.grid, alignment),
            )
            cube = to_cube(corrected, brain, alignment) if suits else None
        if cube is None:
            return run.refusal()
        with run.stage("network"):
            answer = self.ask_network(cube)
        with run.stage("findings"):
            findings = self._findings(answer, cube, brain, threshold)
        if self.card.trained_on != "real":
            run.warnings.append(
                f"{self.card.name} was trained on {self.card.trained_on} data; no clinical accuracy known"
            )
        return replace(findings, warnings=tuple(run.warnings), timings_s=run.timings_s)

    @torch.inference_mode()
    def ask_network(self, cube: Cube) -> NetworkAnswer:
        """Run the joint network on one cube.

        Raises
        ------
        PipelineError
            The network answered with something that is not a number.
        """
        output = self._network(torch.from_numpy(cube.values)[None, None].to(self.device))
        lesion = output.probability[0, 0].float().cpu().numpy()
        shares = functional.softmax(output.classes[0].float(), dim=0).cpu().numpy()
        if not (np.isfinite(lesion).all() and np.isfinite(shares).all()):
            raise PipelineError(f"{self.card.name} gave values that are not numbers")
        heat = np.zeros(cube.mask.shape, dtype=np.float32)
        for weight, small in zip(LOCALISATION_WEIGHTS, output.localisation, strict=True):
            large = functional.interpolate(
                small.float(), size=heat.shape, mode="trilinear", align_corners=False
            )
            heat += np.float32(weight) * _unit_range(large[0, 0].cpu().numpy(), cube)
        classes = {name: float(share) for name, share in zip(CLASSES, shares, strict=True)}
        return NetworkAnswer(lesion, classes, _unit_range(heat, cube))

    def _findings(self, answer: NetworkAnswer, cube: Cube, brain: Brain, threshold: float) -> Findings:
        probability = to_native(answer.lesion, cube, brain)
        labels, lesions = find_lesions(probability, brain.whole, SEGMENT_NAME, threshold)
        mask = labels > 0
        heat = to_native(answer.localisation, cube, brain)
        found = bool(lesions)
        predicted = max(answer.classes, key=lambda name: answer.classes[name])
        hypotheses = tuple(
            Hypothesis(*DISEASES[name], probability=share, calibrated=False, model=self.card.name)
            for name, share in answer.classes.items()
        )
        shown = heat if found else probability
        heatmap = Heatmap(
            name="localisation map" if found else "probability map",
            method=LOCALISATION_METHOD if found else PROBABILITY_METHOD,
            class_name=predicted if found else "lesion",
            probability=answer.classes[predicted] if found else None,
            values=shown,
            key_slices_k=key_slices(mask, shown, brain.whole.spacing_mm[0]),
            model=self.card.name,
        )
        total_mm3 = sum(lesion.volume_mm3 for lesion in lesions)
        return Findings(
            status="findings" if found else "none",
            segments=(Segment(SEGMENT_NAME, "lesion_of_brain", mask, probability),) if found else (),
            lesions=lesions,
            measurements=(
                Measurement("volume", total_mm3, "mm3", derivation="total"),
                Measurement("lesion_count", float(len(lesions)), "{lesions}"),
            ),
            hypotheses=hypotheses if found else (),
            heatmaps=(heatmap,),
            models=(self.card,),
        )


def load_flair(device: str = "auto", weights: str = WEIGHTS) -> FlairPipeline:
    """Return the pipeline with the weights that ship.

    Raises
    ------
    PipelineError
        The weights are missing, damaged or of another network, or there is no such device.
    """
    state, card = load_weights(weights)
    network = JointNetwork()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise PipelineError(f'weights "{weights}" do not fit the joint network of this version') from error
    return FlairPipeline(network, card, device)


def _unit_range(values: FloatArray, cube: Cube) -> FloatArray:
    """Return values stretched to [0, 1] inside the brain and 0 outside; a flat map becomes 0."""
    inside = values[cube.mask]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    if high <= low:
        return np.zeros_like(values)
    return np.asarray(np.where(cube.mask, (values - low) / (high - low), 0.0), dtype=np.float32)
