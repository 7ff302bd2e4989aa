"""The FLAIR pipeline: brain mask, N4, MNI, lesions, MS versus NMOSD; each stage timed and reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipelines.brain.mni_space import Alignment, align_to_mni
from pipelines.device import limit_threads, resolve_device
from pipelines.errors import PipelineError
from pipelines.flair.coarse_brain import Scene
from pipelines.flair.differential import (
    UNCALIBRATED,
    Calibration,
    JointReader,
    JointReading,
    class_name,
    hypotheses,
    not_applicable,
)
from pipelines.flair.five_slices.model import FiveSliceModel
from pipelines.flair.five_slices.slices import slices_from_brain
from pipelines.flair.heat import five_slice_heatmaps, joint_heatmap, probability_heatmap
from pipelines.flair.joint.network import JointNetwork
from pipelines.flair.lesion_calibration import LesionCalibration
from pipelines.flair.lesions import LabelArray, Opinion, find_lesions
from pipelines.flair.matthews import fluid_in_mni, matthews_rule
from pipelines.flair.native_voxels import Samples, at_voxels, lesion_probability, predictions
from pipelines.flair.pattern.features import pattern_features
from pipelines.flair.pattern.model import PatternModel
from pipelines.flair.plausibility import signs_of
from pipelines.flair.preprocess import Brain, Cube, find_brain, to_cube, to_native, without_bias
from pipelines.flair.segmenter import MaskModel
from pipelines.flair.settings import (
    FIVE_SLICES_WEIGHTS,
    JOINT_WEIGHTS,
    MASK_WEIGHTS,
    PATTERN_WEIGHTS,
    REGIONS_WEIGHTS,
    Settings,
    settings_of,
    weights_used,
)
from pipelines.flair.suitability import (
    check_brain,
    check_contrast,
    check_geometry,
    check_protocol,
    protocol_fits,
)
from pipelines.flair.uncertainty import lesions_with_intervals, volume_interval
from pipelines.flair.volume_calibration import VolumeCalibration
from pipelines.memory import give_back_memory, keep_freed_memory
from pipelines.regions.brain_map import BrainMap, Midline
from pipelines.regions.cleaning import on_map
from pipelines.regions.model import RegionsModel
from pipelines.regions.sanity import doubt, not_covered
from pipelines.regions.sorting import region_segments, sort_lesions
from pipelines.stages import Run, Verdict
from pipelines.types import (
    Anatomy,
    BoolArray,
    Counting,
    Findings,
    FloatArray,
    Heatmap,
    Hypothesis,
    Lesion,
    Measurement,
    ModelCard,
    NotTypical,
    Progress,
    Rule,
    Segment,
    Volume,
)
from pipelines.weights import FOLDER, card_details, load_weights

SEGMENT_NAME = "Lesion"
WITHOUT_REGIONS = "the findings are not typical of demyelination"
"""Why lesions are not sorted into regions where they are none of demyelination."""


@dataclass(frozen=True)
class Models:
    """The networks of the pipeline, loaded and warm.

    Parameters
    ----------
    joint : JointReader
        Tells MS from NMOSD and, without ``mask``, draws the mask too.
    mask : MaskModel, optional
        The ensemble that draws the mask.
    five_slices : FiveSliceModel, optional
        The second opinion on MS and NMOSD.
    five_slices_calibration : Calibration
    pattern : PatternModel, optional
        Reads MS and NMOSD from the mask alone.
    pattern_calibration : Calibration
    volume_calibrations : tuple of VolumeCalibration
        Of the ensemble, one for each set of networks that it may ask; without one that applies the interval of the volume
        is the range of the predictions.
    lesion_calibrations : tuple of LesionCalibration
        Likewise; without one that applies a lesion has its mean probability and the range of the predictions.
    regions : RegionsModel, optional
        Tells the structures that the regions of lesions rest on.
    """

    joint: JointReader
    mask: MaskModel | None = None
    five_slices: FiveSliceModel | None = None
    five_slices_calibration: Calibration = UNCALIBRATED
    pattern: PatternModel | None = None
    pattern_calibration: Calibration = UNCALIBRATED
    volume_calibrations: tuple[VolumeCalibration, ...] = ()
    lesion_calibrations: tuple[LesionCalibration, ...] = ()
    regions: RegionsModel | None = None


@dataclass(frozen=True)
class _Found:
    """The lesions on the native grid: IDs, mean probability, and what the joint network said if it was asked already."""

    labels: LabelArray
    probability: FloatArray
    lesions: tuple[Lesion, ...]
    counting: Counting
    anatomy: Anatomy | None
    volume: Measurement
    drawn_by: tuple[ModelCard, ...]
    cards: tuple[ModelCard, ...]
    joint: JointReading | None

    @property
    def mask(self) -> BoolArray:
        return self.labels > 0


@dataclass(frozen=True)
class _Differential:
    """Differential: probabilities with their maps, or why there are none, and the rule."""

    hypotheses: tuple[Hypothesis, ...] = ()
    not_applicable: str = ""
    rules: tuple[Rule, ...] = ()
    heatmaps: tuple[Heatmap, ...] = ()
    cards: tuple[ModelCard, ...] = ()


class FlairPipeline:
    """Finds MS and NMOSD lesions on one FLAIR volume.

    Parameters
    ----------
    models : Models
        On ``device``.
    device : str
        "auto", "cpu", "cuda", "cuda:1".
    """

    def __init__(self, models: Models, device: str = "auto") -> None:
        self.device = resolve_device(device)
        self.models = models
        limit_threads()
        if self.device == "cpu":
            keep_freed_memory()

    def __call__(self, volume: Volume, settings: Mapping[str, object], progress: Progress) -> Findings:
        """Analyse one volume; what cannot be analysed comes back as status "unsuitable" with its reason."""
        checked = settings_of(settings)
        run = Run(progress)
        if not run.suits(check_protocol(volume.attributes), check_geometry(volume)):
            return run.refusal()
        try:
            return self._analyse(volume, checked, run)
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Give back what a network left in pieces, which the next one could not use."""
        if self.device == "cpu":
            give_back_memory()

    def _analyse(self, volume: Volume, settings: Settings, run: Run) -> Findings:
        with run.stage("mask"):
            brain = find_brain(volume, self.device)
            self._tidy()
        if brain is None:
            run.suits(Verdict("no brain found"))
            return run.refusal()
        with run.stage("N4"):
            corrected = without_bias(brain)
        with run.stage("MNI"):
            alignment = align_to_mni(corrected, brain.mask, brain.grid)
            suits = run.suits(
                check_brain(brain.mask, brain.grid, alignment),
                check_contrast(
                    corrected,
                    brain.mask,
                    brain.grid,
                    alignment,
                    protocol=protocol_fits(volume.attributes),
                ),
            )
            cube = to_cube(corrected, brain, alignment) if suits else None
        if cube is None:
            return run.refusal()
        anatomy, structures = None, None
        if self.models.regions is not None:
            with run.stage("regions"):
                anatomy, structures = _structures(self.models.regions, cube, brain, alignment)
        believed = None if anatomy is None or anatomy.not_available else structures
        with run.stage("lesions"):
            found = self._find(cube, brain, settings, believed)
        with run.stage("plausibility"):
            # Structures that are not believed are asked all the same: a tumour is what may have displaced them.
            signs = signs_of(_scene(found, cube, brain, structures, Midline.of(alignment)))
        if signs:
            found = _without_regions(found)
        told = _Differential()
        if found.lesions and not signs:
            with run.stage("differential"):
                told = self._tell(found, cube, brain, alignment, corrected)
        findings = _findings(found, told, brain, signs)
        if self.models.regions is not None:
            findings = replace(
                findings,
                anatomy=anatomy if found.anatomy is None else found.anatomy,
                models=(*findings.models, self.models.regions.card),
                tasks={**findings.tasks, "regions": (self.models.regions.card.name,)},
            )
        return replace(findings, warnings=tuple(run.warnings), timings_s=run.timings_s)

    def _find(self, cube: Cube, brain: Brain, settings: Settings, structures: BrainMap | None) -> _Found:
        """Draw the mask and measure its lesions, with their intervals and regions."""
        joint, second = None, None
        samples: Samples
        if self.models.mask is not None:
            answer = self.models.mask(
                cube.values,
                slices_mm=brain.whole.spacing_mm[0],
                members=settings.members,
                flips=settings.flips,
            )
            samples, mean, cards = answer.samples, answer.probability, answer.cards
            if answer.second is not None:
                second = _opinion(answer.second, cube, brain)
        else:
            joint = self.models.joint(cube)
            samples, mean, cards = joint.lesion[None], joint.lesion, (self.models.joint.card,)
        drawn_by = cards
        probability = lesion_probability(mean, cube, brain, settings.threshold)
        labels, lesions, counting = find_lesions(
            probability, brain.whole, SEGMENT_NAME, settings.threshold, second
        )
        anatomy = None
        if structures is not None:
            by_region = sort_lesions(labels, lesions, brain.whole, structures)
            labels, lesions = by_region.labels, by_region.lesions
            counting = by_region.counting(counting)
            anatomy = by_region.anatomy(not_covered(structures, brain.whole))
        total_mm3 = sum(lesion.volume_mm3 for lesion in lesions)
        voxel_mm3 = brain.whole.voxel_volume_mm3
        interval, calibrated = None, None
        digests = {card.name: card.digest for card in drawn_by}
        for calibration in self.models.volume_calibrations:
            if calibration.applies(digests, settings.threshold, flips=settings.flips):
                interval = calibration.interval(total_mm3, probability, voxel_mm3)
        for known in self.models.lesion_calibrations:
            if known.applies(digests, settings.threshold, flips=settings.flips):
                calibrated = tuple(map(known.told, lesions))
        if interval is None or calibrated is None:
            if lesions and joint is None:
                # Asked for the differential anyway, and trained apart from the ensemble.
                joint = self.models.joint(cube)
                samples = np.concatenate([samples, joint.lesion[None].astype(samples.dtype)])
                cards += (self.models.joint.card,)
            said = predictions(samples, cube, brain, settings.threshold)
            interval = interval or volume_interval(
                total_mm3, probability, said, voxel_mm3, settings.threshold
            )
            calibrated = calibrated or lesions_with_intervals(lesions, labels, said)
        return _Found(
            labels=labels,
            probability=probability,
            lesions=calibrated,
            counting=counting,
            anatomy=anatomy,
            volume=Measurement("volume", total_mm3, "mm3", derivation="total", interval=interval),
            drawn_by=drawn_by,
            cards=cards,
            joint=joint,
        )

    def _tell(
        self, found: _Found, cube: Cube, brain: Brain, alignment: Alignment, corrected: FloatArray
    ) -> _Differential:
        """Tell MS from NMOSD, where there is enough to tell from; the rule stands beside it in any case."""
        fluid = fluid_in_mni(cube, alignment)
        rules = (matthews_rule(found.labels, found.probability, brain.whole, alignment, fluid),)
        reason = not_applicable(found.lesions)
        if reason:
            return _Differential(not_applicable=reason, rules=rules)
        joint = self.models.joint
        reading = found.joint or joint(cube)
        said = hypotheses(reading.logits, joint.calibration, joint.card.name)
        first = max(said, key=lambda item: item.probability)
        heatmaps: tuple[Heatmap, ...] = (
            joint_heatmap(
                to_native(reading.localisation, cube, brain),
                found.mask,
                (class_name(first), first.probability, joint.card.name),
                brain.whole.spacing_mm[0],
            ),
        )
        cards: tuple[ModelCard, ...] = (joint.card,)
        second = self.models.five_slices
        if second is not None:
            slices = slices_from_brain(corrected, brain, alignment)
            answer = second(slices)
            also = hypotheses(answer.logits, self.models.five_slices_calibration, second.card.name)
            strongest = max(item.probability for item in also)
            heatmaps += five_slice_heatmaps(answer, slices, brain, strongest, second.card.name)
            said += also
            cards += (second.card,)
        third = self.models.pattern
        if third is not None:
            logits = third(pattern_features(found.labels, brain.whole, alignment, fluid))
            said += hypotheses(logits, self.models.pattern_calibration, third.card.name)
            cards += (third.card,)
        return _Differential(said, "", rules, heatmaps, cards)


def _opinion(probability: FloatArray, cube: Cube, brain: Brain) -> Opinion:
    """Return what tells a network's probability, given on the cube, at native voxels."""
    return lambda voxels: at_voxels(probability[None], voxels, cube, brain)[0]


def _structures(
    model: RegionsModel, cube: Cube, brain: Brain, alignment: Alignment
) -> tuple[Anatomy, BrainMap]:
    """Return the structures of the brain, with the reason where they are not to be believed."""
    structures = BrainMap(model(cube.values, cube.mask), cube.grid, Midline.of(alignment))
    return Anatomy(not_available=doubt(structures, cube.values, brain.whole)), structures


def _scene(found: _Found, cube: Cube, brain: Brain, structures: BrainMap | None, midline: Midline) -> Scene:
    """Return what the check of plausibility looks at."""
    return Scene(
        cube.values,
        cube.mask,
        on_map(found.mask, brain.whole, cube.grid),
        None if structures is None else structures.structures,
        cube.grid,
        midline,
    )


def _without_regions(found: _Found) -> _Found:
    """Return lesions as they are outlined, no longer as those of a region."""
    lesions = tuple(
        replace(lesion, segment=SEGMENT_NAME, region=None, also_reaches=(), borderline=False)
        for lesion in found.lesions
    )
    return replace(found, lesions=lesions, anatomy=Anatomy(not_available=WITHOUT_REGIONS))


def _findings(found: _Found, told: _Differential, brain: Brain, signs: tuple[NotTypical, ...]) -> Findings:
    """Put together what was found; where no class is told, the map is that of the lesions' probability."""
    whole = Segment(SEGMENT_NAME, "lesion_of_brain", found.mask, found.probability)
    segments = (
        (whole,)
        if signs or found.anatomy is None
        else region_segments(found.labels, found.lesions, found.probability)
    )
    probability = probability_heatmap(
        found.probability, found.mask, found.cards[0].name, brain.whole.spacing_mm[0]
    )
    return Findings(
        # Where the networks drew nothing the signs are the finding.
        status="findings" if found.lesions or signs else "none",
        segments=segments if found.lesions else (),
        lesions=found.lesions,
        counting=found.counting,
        measurements=(found.volume, Measurement("lesion_count", float(len(found.lesions)), "{lesions}")),
        hypotheses=told.hypotheses,
        no_differential=told.not_applicable,
        rules=told.rules,
        not_typical=signs,
        heatmaps=told.heatmaps or (probability,),
        models=(*found.cards, *(card for card in told.cards if card not in found.cards)),
        tasks={
            "mask": _names(found.drawn_by),
            "intervals": _names(found.cards),
            "differential": _names(told.cards),
        },
        brain=brain.whole_mask,
        probability=found.probability,
        labels=np.asarray(found.labels, dtype=np.int32),
    )


def _names(cards: tuple[ModelCard, ...]) -> tuple[str, ...]:
    return tuple(card.name for card in cards)


def load_flair(device: str = "auto", folder: Path = FOLDER) -> FlairPipeline:
    """Return the pipeline with the weights that ship.

    Raises
    ------
    PipelineError
        The weights are missing, damaged or of another network, or there is no such device.
    """
    device = resolve_device(device)
    used = weights_used(folder)
    drawing = [name for name in MASK_WEIGHTS if name in used]
    five_slices, pattern, regions = (
        name in used for name in (FIVE_SLICES_WEIGHTS, PATTERN_WEIGHTS, REGIONS_WEIGHTS)
    )
    models = Models(
        joint=_load_joint(device, folder),
        mask=MaskModel(device, folder) if drawing else None,
        five_slices=FiveSliceModel(device, folder) if five_slices else None,
        five_slices_calibration=Calibration.of(card_details(FIVE_SLICES_WEIGHTS, folder))
        if five_slices
        else UNCALIBRATED,
        pattern=PatternModel(folder) if pattern else None,
        pattern_calibration=Calibration.of(card_details(PATTERN_WEIGHTS, folder))
        if pattern
        else UNCALIBRATED,
        volume_calibrations=VolumeCalibration.all_of(card_details(drawing[0], folder)) if drawing else (),
        lesion_calibrations=LesionCalibration.all_of(card_details(drawing[0], folder)) if drawing else (),
        regions=RegionsModel(device, folder) if regions else None,
    )
    return FlairPipeline(models, device)


def _load_joint(device: str, folder: Path) -> JointReader:
    state, card = load_weights(JOINT_WEIGHTS, folder)
    network = JointNetwork()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise PipelineError(
            f'weights "{JOINT_WEIGHTS}" do not fit the joint network of this version'
        ) from error
    return JointReader(network, card, Calibration.of(card_details(JOINT_WEIGHTS, folder)), device)
