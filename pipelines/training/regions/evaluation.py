"""Scores of the network of structures: on synthetic brains of heads that it has not learnt from, and on real ventricles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Final

import cc3d
import nibabel as nib
import numpy as np
import numpy.typing as npt

from pipelines.brain.grid import Grid, resample
from pipelines.brain.mni_space import align_to_mni
from pipelines.flair.intensity import BACKGROUND
from pipelines.flair.preprocess import Brain, Cube, find_brain, to_cube, without_bias
from pipelines.regions.brain_map import BrainMap, Midline, StructureArray
from pipelines.regions.model import RegionsModel
from pipelines.regions.sanity import doubt, figures_of
from pipelines.regions.sorting import Sorted, sort_lesions
from pipelines.regions.structures import VENTRICLES, Structure
from pipelines.training.data_sets.cube import SPACING_MM, lps_affine
from pipelines.training.regions.cases import Known, generator_of, head_files, known
from pipelines.training.scoring.targets import Target
from pipelines.training.synthetic.anatomy import from_label_map
from pipelines.types import BoolArray, FloatArray, Lesion, Region, Volume

SETS = 30
"""Synthetic brains that it is scored on."""
LEAST_MM3 = 14.0
"""Lesions smaller than this are not asked for."""
DICE_TARGETS: Final[Mapping[Structure, float]] = {
    Structure.LATERAL_VENTRICLE: 0.88,
    Structure.CORTEX: 0.78,
    Structure.WHITE: 0.85,
    Structure.DEEP_GREY: 0.82,
    Structure.CEREBELLUM: 0.92,
    Structure.BRAINSTEM: 0.88,
}
AGREEMENT, SAME_SITES, REAL_VENTRICLES = 0.92, 0.95, 0.82
RECALL: Final[Mapping[Region, float]] = {
    "periventricular": 0.90,
    "juxtacortical": 0.93,
    "infratentorial": 0.95,
}
SITES: Final[tuple[Region, ...]] = ("periventricular", "juxtacortical", "infratentorial")
Report = Callable[[str], None]


@dataclass
class SyntheticScores:
    """Scores on synthetic brains, one entry a brain or a lesion.

    Parameters
    ----------
    dice : list of mapping
        For each structure that is there.
    regions : list of (true, found)
        Of each lesion; None for a normal rim.
    clear : list of bool
        Of each lesion, whether it is found in a region and not called borderline.
    same_sites : list of bool
        Whether as many sites of the criteria have lesions as in truth, borderline ones included.
    same_sure_sites : list of bool
        The same without borderline ones, as a report counts sites.
    """

    dice: list[dict[Structure, float]] = field(default_factory=list)
    regions: list[tuple[Region | None, Region | None]] = field(default_factory=list)
    clear: list[bool] = field(default_factory=list)
    same_sites: list[bool] = field(default_factory=list)
    same_sure_sites: list[bool] = field(default_factory=list)

    def mean_dice(self, structure: Structure) -> float:
        """Return the mean over the brains that have it."""
        return fmean(of[structure] for of in self.dice if structure in of)

    def agreement(self) -> float:
        """Return the share of lesions whose region is the true one."""
        return fmean(true == found for true, found in self.regions)

    def clear_agreement(self) -> float:
        """Return the same of the lesions that are not called borderline; nan without any."""
        same = [true == found for (true, found), clear in zip(self.regions, self.clear, strict=True) if clear]
        return fmean(same) if same else float("nan")

    def recall(self, region: Region) -> float:
        """Return the share of a region's lesions that are found there; nan without any."""
        found = [said == region for true, said in self.regions if true == region]
        return fmean(found) if found else float("nan")


def dice(one: BoolArray, other: BoolArray) -> float:
    """Return the Dice coefficient of two masks; nan where both are empty."""
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else float("nan")


def box_grid(shape: tuple[int, ...]) -> Grid:
    """Return the grid of a box of the cube whose centre is the origin."""
    k, j, i = shape
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -SPACING_MM / 2 * (np.array([i, j, k]) - 1)
    return Grid((k, j, i), affine)


def true_midline(structures: StructureArray, grid: Grid) -> Midline:
    """Return the plane through the middle of the structures that lie on both sides, by least squares."""
    middle = np.argwhere(np.isin(structures, (Structure.LOWER_VENTRICLE, Structure.BRAINSTEM)))
    points = grid.positions_lps(middle)
    terms = np.column_stack([points[:, 1:], np.ones(len(points))])
    slope, *_ = np.linalg.lstsq(terms, points[:, 0], rcond=None)
    normal = np.array([1.0, -slope[0], -slope[1]])
    length = float(np.linalg.norm(normal))
    return Midline(normal / length, float(slope[2]) / length)


def lesions_of(mask: BoolArray, grid: Grid) -> tuple[npt.NDArray[np.int32], tuple[Lesion, ...]]:
    """Return the components of a mask that are large enough to be asked for."""
    labels, count = cc3d.connected_components(mask, connectivity=26, return_N=True)
    sizes = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_volume_mm3
    kept = [n for n in range(1, count + 1) if sizes[n] >= LEAST_MM3]
    numbers = np.zeros(count + 1, np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    lesions = tuple(
        Lesion(number, "Lesion", float(sizes[n]), (0.0, 0.0, 0.0), 1.0, (0, 0))
        for number, n in enumerate(kept, start=1)
    )
    return numbers[labels], lesions


def score(case: Known, found: StructureArray, scores: SyntheticScores) -> None:
    """Score the structures that were found in a synthetic brain, and the regions that follow from them."""
    scores.dice.append(
        {
            structure: dice(found == structure, case.structures == structure)
            for structure in Structure
            if structure and (case.structures == structure).any()
        }
    )
    grid = box_grid(case.image.shape)
    labels, lesions = lesions_of(case.lesions, grid)
    midline = true_midline(case.structures, grid)
    true, said = (
        sort_lesions(labels, lesions, grid, BrainMap(structures, grid, midline))
        for structures in (case.structures, found)
    )
    were, called = (_as_sorted(of, labels, len(lesions)) for of in (true, said))
    regions = [[None if lesion is None else lesion.region for lesion in of] for of in (were, called)]
    scores.regions += zip(*regions, strict=True)
    scores.clear += [lesion is not None and not lesion.borderline for lesion in called]
    scores.same_sites.append(_sites(true) == _sites(said))
    scores.same_sure_sites.append(_sites(true, sure=True) == _sites(said, sure=True))


def _sites(of: Sorted, *, sure: bool = False) -> int:
    """Return how many sites of the criteria have lesions, or with ``sure`` lesions that are not borderline."""
    return sum(load.region in SITES and load.lesions > sure * load.borderline for load in of.loads)


def _as_sorted(of: Sorted, labels: npt.NDArray[np.int32], count: int) -> list[Lesion | None]:
    """Return each lesion, by the IDs that they had, as it was sorted; None for a normal rim."""
    found: list[Lesion | None] = [None] * count
    inside = labels > 0
    for before, after in np.unique(np.column_stack([labels[inside], of.labels[inside]]), axis=0):
        found[before - 1] = of.lesions[after - 1] if after else None
    return found


def synthetic_scores(
    model: RegionsModel, data: Path | None, *, sets: int = SETS, seed: int = 0, report: Report
) -> SyntheticScores:
    """Score the network on synthetic brains of the heads that are kept apart for it."""
    _, files = head_files(data)
    generator = generator_of([from_label_map(path) for path in files])
    scores = SyntheticScores()
    for number in range(sets):
        report(f"synthetic brain {number + 1} of {sets}")
        case = known(generator, np.random.default_rng((seed, 77, number)))
        score(case, structures_of(model, case.image), scores)
    return scores


def structures_of(model: RegionsModel, image: FloatArray) -> StructureArray:
    """Return what the network finds in the box of a brain."""
    return model(image, image > BACKGROUND)


@dataclass(frozen=True)
class RealScore:
    """Score on a real scan.

    Parameters
    ----------
    ventricles : float
        Dice of all ventricles together with the experts' mask.
    figures : mapping
        See `pipelines.regions.sanity.figures_of`.
    doubt : str
        Why a job would say that there are no regions; empty where it would not.
    """

    case: str
    ventricles: float
    figures: Mapping[str, float]
    doubt: str


def real_cases(data: Path | None) -> Iterator[tuple[str, Path, Path]]:
    """Yield name, FLAIR and mask of ventricles of each real scan: ``NAME_flair.nii.gz`` beside ``NAME_ventricles.nii.gz``."""
    for mask in sorted(data.glob("*/*_ventricles.nii.gz")) if data is not None else ():
        name = mask.name.removesuffix("_ventricles.nii.gz")
        flair = mask.with_name(f"{name}_flair.nii.gz")
        if flair.exists():
            yield name, flair, mask


def read_upright(path: Path) -> Volume:
    """Return a NIfTI volume whose slices follow each other towards Superior."""
    image = nib.as_closest_canonical(nib.load(path))
    values = np.asarray(image.dataobj, dtype=np.float32).squeeze().T
    return Volume(np.ascontiguousarray(values), lps_affine(image.affine))


def over_slices(probability: FloatArray, cube: Grid, image: Grid) -> FloatArray:
    """Return the mean of a map of the cube over the extent of each native voxel across the slices."""
    parts = max(1, round(image.spacing_mm[0] / SPACING_MM))
    total = np.zeros(image.shape_kji, np.float32)
    for number in range(parts):
        shifted = image.affine.copy()
        shifted[:3, 3] += shifted[:3, 2] * ((number + 0.5) / parts - 0.5)
        total += resample(probability, cube, Grid(image.shape_kji, shifted))
    return np.asarray(total / np.float32(parts))


def real_score(model: RegionsModel, name: str, flair: Path, mask: Path) -> RealScore | None:
    """Score the network on a real scan; None without a brain."""
    volume = read_upright(flair)
    brain = find_brain(volume)
    if brain is None:
        return None
    corrected = without_bias(brain)
    alignment = align_to_mni(corrected, brain.mask, brain.grid)
    cube = to_cube(corrected, brain, alignment)
    truth = read_upright(mask).array > 0
    return scored(model, name, (cube, brain, Midline.of(alignment)), truth)


def scored(
    model: RegionsModel, name: str, prepared: tuple[Cube, Brain, Midline], truth: BoolArray
) -> RealScore:
    """Score the network on a prepared scan; ``truth`` lies on the native grid."""
    cube, brain, midline = prepared
    said = model.probability(cube.values, cube.mask, VENTRICLES)
    structures = BrainMap(model(cube.values, cube.mask), cube.grid, midline)
    found = over_slices(said, cube.grid, brain.whole) >= 0.5
    return RealScore(
        name,
        dice(found, truth),
        figures_of(structures, cube.values),
        doubt(structures, cube.values, brain.whole),
    )


def targets_of(scores: SyntheticScores, real: Sequence[RealScore]) -> list[Target]:
    """Return what is asked of the network, and what it reaches."""

    def target(case: str, asked: str, reached: float, least: float, origin: str = "synthetic") -> Target:
        return Target(case, f"{asked} at least {least:g}", reached, reached - least, origin)

    brains = f"{len(scores.dice)} brains"
    targets = [
        target(
            brains, f"Dice of {structure.name.lower().replace('_', ' ')}", scores.mean_dice(structure), least
        )
        for structure, least in DICE_TARGETS.items()
    ]
    lesions = f"{len(scores.regions)} lesions"
    targets.append(target(lesions, "agreement of the region", scores.agreement(), AGREEMENT))
    if any(scores.clear):
        targets.append(
            target(
                f"{sum(scores.clear)} lesions not called borderline",
                "agreement of the region",
                scores.clear_agreement(),
                AGREEMENT,
            )
        )
    targets += [
        target(lesions, f"recall of {region}", scores.recall(region), least)
        for region, least in RECALL.items()
        if any(true == region for true, _ in scores.regions)
    ]
    targets += [
        target(brains, "share with the same number of sites", fmean(scores.same_sites), SAME_SITES),
        target(
            brains,
            "share with the same number of sites by lesions that are not borderline",
            fmean(scores.same_sure_sites),
            SAME_SITES,
        ),
    ]
    if real:
        mean = fmean(of.ventricles for of in real)
        targets.append(
            target(f"{len(real)} scans", "mean Dice of the ventricles", mean, REAL_VENTRICLES, "real")
        )
    return targets
