"""Synthetic heads with MS, and with lesions of other kinds, as the check of plausibility sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipelines.brain.grid import Grid
from pipelines.errors import DataSetError
from pipelines.regions.brain_map import Midline
from pipelines.training.regions.evaluation import box_grid
from pipelines.training.synthetic.anatomy import from_label_map
from pipelines.training.synthetic.generator import Generator, Head, Planted
from pipelines.training.synthetic.other_lesions import KINDS, Kind, draw_other
from pipelines.types import BoolArray, FloatArray

SETTING_HEADS: Final = 8
"""The limits were set on so many of the label maps, the first; the others judge."""
MS: Final = "MS"
SPOTS_SHARE: Final = 0.5
"""Share of heads with another lesion that have a few lesions of MS as well."""
CONTRASTS: Final = (0.6, 1.4)
"""Every second round of the kinds has so many times the contrast that the kind is painted with, so that signals also are
other than those that the limits were set on."""


@dataclass(frozen=True)
class Known:
    """Head that is known to be like demyelination, or not.

    Parameters
    ----------
    name, kind : str
        The kind is "MS" or one of `KINDS`.
    image : float32 array, shape (k, j, i)
        Normalised.
    brain, lesions, planted : bool arrays, shape (k, j, i)
        Mask of the brain, true lesions of MS, and the other lesion.
    grid : Grid
    midline : Midline
        Of the head before anything pushed it.
    """

    name: str
    kind: str
    image: FloatArray
    brain: BoolArray
    lesions: BoolArray
    planted: BoolArray
    grid: Grid
    midline: Midline


def head_files(data: Path | None, *, judging: bool) -> list[Path]:
    """Return the label maps that judge, or those that the limits were set on.

    Raises
    ------
    DataSetError
        There are too few.
    """
    files = [] if data is None else sorted((data / "head_labels").glob("*.nii.gz"))
    if len(files) <= SETTING_HEADS:
        raise DataSetError(
            f"plausibility is judged on label maps, more than {SETTING_HEADS} of them in"
            f" {'--data' if data is None else data}/head_labels; give a folder that has them"
        )
    return files[SETTING_HEADS:] if judging else files[:SETTING_HEADS]


def kind_of(number: int) -> str:
    """Return the kind of a case by its number: MS and the others in turn."""
    return MS if number % 2 else KINDS[number // 2 % len(KINDS)]


def has_other_contrast(number: int) -> bool:
    """Tell whether a case by its number is painted with another contrast than its kind's own."""
    return number // 2 // len(KINDS) % 2 == 1


def known_cases(files: list[Path], count: int, seed: int) -> Iterator[Known]:
    """Yield cases, MS and the other kinds in turn; the same files and seed give the same ones."""
    generator = Generator([from_label_map(path) for path in files], flair_order_share=1.0)
    for number in range(count):
        yield known_case(generator, number, seed)


def known_case(generator: Generator, number: int, seed: int) -> Known:
    """Draw one case."""
    kind, rng = kind_of(number), np.random.default_rng((seed, 83, number))
    planes: list[Midline] = []

    def plant(head: Head, draw: np.random.Generator) -> tuple[Head, Planted]:
        planes.append(_midline(head))
        if kind == MS:
            return head, _Nothing(head.brain)
        head, lesion = draw_other(head, _other(kind), draw)
        return head, lesion.with_contrast(draw.uniform(*CONTRASTS)) if has_other_contrast(number) else lesion

    has_spots = kind == MS or rng.random() < SPOTS_SHARE
    case = generator.case(rng, "MS" if has_spots else "none", plant)
    planted = np.zeros_like(case.brain) if case.planted is None else case.planted
    return Known(
        f"{kind} {number}, {case.anatomy}",
        kind,
        case.network_input(),
        case.brain,
        case.lesions & ~planted,
        planted & case.brain,
        box_grid(case.image.shape),
        planes[0],
    )


def _other(kind: str) -> Kind:
    return next(item for item in KINDS if item == kind)


def _midline(head: Head) -> Midline:
    """Return the plane through the middle of a head, by least squares."""
    grid = box_grid(head.labels.shape)
    points = grid.positions_lps(np.argwhere((np.abs(head.at.left) < 2) & head.brain))
    terms = np.column_stack([points[:, 1:], np.ones(len(points))])
    slope, *_ = np.linalg.lstsq(terms, points[:, 0], rcond=None)
    normal = np.array([1.0, -slope[0], -slope[1]])
    length = float(np.linalg.norm(normal))
    return Midline(normal / length, float(slope[2]) / length)


@dataclass(frozen=True)
class _Nothing:
    """Plants nothing, so that both kinds of case are drawn the same way."""

    brain: BoolArray

    @property
    def inside(self) -> BoolArray:
        return np.zeros_like(self.brain)

    def painted(self, image: FloatArray, rng: np.random.Generator) -> FloatArray:
        return image
