"""Shares of heads and scans in which the check of plausibility finds a sign.

The lesions of MS are given to it as they truly lie. Of another lesion the mask holds nothing, or all of it: a network that has
learnt from demyelination draws something in between, and the check must do with either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from pipelines.brain.mni_space import align_to_mni
from pipelines.flair.coarse_brain import Scene
from pipelines.flair.plausibility import signs_of
from pipelines.flair.preprocess import find_brain, to_cube, without_bias
from pipelines.flair.segmenter import MaskModel
from pipelines.flair.settings import Settings
from pipelines.regions.brain_map import Midline, StructureArray
from pipelines.training.plausibility.cases import MS, Known, head_files, known_cases
from pipelines.training.regions.evaluation import read_upright
from pipelines.training.scoring.targets import Target
from pipelines.types import BoolArray, FloatArray, NotTypical

CASES: Final = 160
"""Synthetic heads, half of them with MS."""
FOUND, FALSELY = 0.9, 0.02
"""At least so many of the other lesions, and at most so many of MS, are to have a sign."""
NOTHING, ALL = "none of it drawn", "all of it drawn"
Report = Callable[[str], None]


class Structures(Protocol):
    """Network of structures, or what stands for it."""

    def __call__(self, cube: FloatArray, brain: BoolArray) -> StructureArray: ...  # noqa: D102


@dataclass(frozen=True)
class Judged:
    """Answer of the check on one head or scan.

    Parameters
    ----------
    case, kind : str
        The kind is "MS", "real" or one of the other lesions.
    drawn : str
        How much of another lesion the mask holds; empty without one.
    signs : tuple of NotTypical
    planted_ml : float
        Volume of the other lesion.
    """

    case: str
    kind: str
    drawn: str
    signs: tuple[NotTypical, ...]
    planted_ml: float = 0.0

    def text(self) -> str:
        """Return the answer in one line."""
        found = "; ".join(f"{sign.name} {sign.value:.1f} {sign.unit}" for sign in self.signs)
        return f"{self.case}{self.drawn and f', {self.drawn}'}: {found or 'no sign'}"


def judged_heads(
    model: Structures, data: Path | None, *, cases: int = CASES, seed: int = 0, report: Report
) -> list[Judged]:
    """Judge synthetic heads that the limits were not set on."""
    found: list[Judged] = []
    for known in known_cases(head_files(data, judging=True), cases, seed):
        report(known.name)
        found += judged(known, model(known.image, known.brain))
    return found


def judged(known: Known, structures: StructureArray) -> Iterator[Judged]:
    """Judge one head, with another lesion twice."""
    planted_ml = float(np.count_nonzero(known.planted) * known.grid.voxel_volume_mm3 / 1000)
    masks = {"": known.lesions}
    if known.kind != MS:
        masks = {NOTHING: known.lesions, ALL: known.lesions | known.planted}
    for drawn, lesions in masks.items():
        scene = Scene(known.image, known.brain, lesions, structures, known.grid, known.midline)
        yield Judged(known.name, known.kind, drawn, signs_of(scene), planted_ml)


def real_files(data: Path | None) -> list[Path]:
    """Return the FLAIR scans in a folder of sources, of MS patients and of the healthy."""
    patterns = (
        "ms3seg/*_flair",
        "open_ms/mni/*/flair",
        "open_ms/longitudinal/*/*_FLAIR",
        "mslesseg/*_flair",
        "other/flair_*",
    )
    return (
        []
        if data is None
        else [path for pattern in patterns for path in sorted(data.glob(f"{pattern}.nii.gz"))]
    )


def judged_scan(structures: Structures, masks: MaskModel, path: Path) -> Judged | None:
    """Judge a real scan as a job would; None where no brain is found."""
    volume = read_upright(path)
    brain = find_brain(volume)
    if brain is None:
        return None
    corrected = without_bias(brain)
    alignment = align_to_mni(corrected, brain.mask, brain.grid)
    cube = to_cube(corrected, brain, alignment)
    settings = Settings()
    answer = masks(
        cube.values, slices_mm=brain.whole.spacing_mm[0], members=settings.members, flips=settings.flips
    )
    scene = Scene(
        cube.values,
        cube.mask,
        answer.probability >= settings.threshold,
        structures(cube.values, cube.mask),
        cube.grid,
        Midline.of(alignment),
    )
    return Judged(f"{path.parent.name}/{path.name.removesuffix('.nii.gz')}", "real", "", signs_of(scene))


def targets_of(found: Sequence[Judged]) -> list[Target]:
    """Return what is asked of the check, and what it reaches."""
    targets = []
    for drawn in (NOTHING, ALL):
        other = [item for item in found if item.drawn == drawn]
        if other:
            share = _share(other)
            name = f"share of {len(other)} other lesions with a sign, {drawn}, at least {FOUND:g}"
            targets.append(Target("heads", name, share, share - FOUND, "synthetic"))
    for kind, most, origin in ((MS, FALSELY, "synthetic"), ("real", 0.0, "real")):
        own = [item for item in found if item.kind == kind]
        if own:
            share = _share(own)
            of = "heads with MS" if kind == MS else "scans"
            targets.append(
                Target(of, f"share of {len(own)} with a sign at most {most:g}", share, most - share, origin)
            )
    return targets


def shares_by_kind(found: Sequence[Judged]) -> Mapping[str, tuple[int, int]]:
    """Return how many of each kind of other lesion have a sign, of how many."""
    kinds = dict.fromkeys((item.kind, item.drawn) for item in found if item.drawn)
    return {
        f"{kind}, {drawn}": (
            sum(bool(item.signs) for item in found if (item.kind, item.drawn) == (kind, drawn)),
            sum((item.kind, item.drawn) == (kind, drawn) for item in found),
        )
        for kind, drawn in kinds
    }


def counts_by_sign(found: Sequence[Judged]) -> Mapping[str, tuple[int, int]]:
    """Return how often each sign stands in other lesions, with the mask in either state, and how often falsely."""
    names = dict.fromkeys(sign.name for item in found for sign in item.signs)

    def count(name: str, *, drawn: bool) -> int:
        return sum(bool(of.drawn) == drawn and name in [sign.name for sign in of.signs] for of in found)

    return {name: (count(name, drawn=True), count(name, drawn=False)) for name in names}


def _share(items: Sequence[Judged]) -> float:
    return sum(bool(item.signs) for item in items) / len(items)
