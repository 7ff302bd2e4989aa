"""Scores of the comparison: on synthetic pairs whose changes are known, and on real scans against their moved copies."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from pipelines.change.compare import compare
from pipelines.comparison import Change, Comparison, Examined, Grade
from pipelines.errors import DataSetError
from pipelines.training.change.examination import Examiner
from pipelines.training.change.pairs import Scanned, Sessions, label_map_base, label_maps, sessions_of
from pipelines.training.change.rescan import moved_copy
from pipelines.training.data_sets.cube import lps_affine
from pipelines.training.scoring.targets import Target
from pipelines.training.synthetic.anatomy import Anatomy, from_label_map, load_anatomies
from pipelines.types import Volume

SERIES = 16
"""Heads, of three sessions each."""
GRADES: tuple[Grade, ...] = ("A", "A", "B", "B", "A", "C", "A", "B")
"""Of one head after the other; every other one is isotropic."""
MOST_FALSE: Mapping[Grade, float] = {"A": 0.1, "B": 0.3, "C": 0.0}
"""False new lesions a pair without change that may stand in a headline."""
SENSITIVITY = {30.0: 0.80, 100.0: 0.95}
"""Share of new lesions of so many mm3 that are asked for, where the mask shows them."""
GROWTH = 0.60
READ_AS = 600.0
"""Value of a real scan's brightest twentieth, so that whole numbers hold it."""
Report = Callable[[str], None]


@dataclass(frozen=True)
class TrueScore:
    """A true change: of which kind, the larger volume of the lesion, and whether the mask and the comparison show it."""

    change: Change
    volume_mm3: float
    in_mask: bool
    found: bool


@dataclass
class Scores:
    """Scores of pairs by their grade.

    Parameters
    ----------
    false_new : mapping
        Sure new lesions that are none, for each pair with and without change.
    false_other : mapping
        Other sure changes that are none.
    true : mapping
        All true changes.
    """

    false_new: dict[Grade, list[int]] = field(default_factory=dict)
    unchanged_new: dict[Grade, list[int]] = field(default_factory=dict)
    false_other: dict[Grade, list[int]] = field(default_factory=dict)
    true: dict[Grade, list[TrueScore]] = field(default_factory=dict)


def score(
    result: Comparison,
    current: Scanned,
    prior_labels_on_current: np.ndarray,
    sessions: Sessions,
    examined: Examined,
    scores: Scores,
    *,
    changed: bool,
) -> None:
    """Score the comparison of two sessions.

    Parameters
    ----------
    prior_labels_on_current : int32 array, shape (k, j, i)
        The true changes as the earlier session shows them, where they lie in the current one.
    changed : bool
        False for the two sessions without any change between them.
    """
    grade = result.comparability.grade
    labels = result.labels if result.labels is not None else np.zeros(current.labels.shape, np.int32)
    true_numbers: dict[int, set[int]] = {}
    wide = np.ones((3, 3, 3), dtype=bool)
    false = {"new": 0, "other": 0}
    for one in result.changes:
        region = ndimage.binary_dilation(labels == one.number, wide)
        touched = {int(n) for n in np.unique(current.labels[region])} | {
            int(n) for n in np.unique(prior_labels_on_current[region])
        }
        true_numbers[one.number] = touched - {0} if changed else set()
        if not one.possible and not true_numbers[one.number]:
            false["new" if one.change == "new" else "other"] += 1
    scores.false_new.setdefault(grade, []).append(false["new"])
    scores.false_other.setdefault(grade, []).append(false["other"])
    if not changed:
        scores.unchanged_new.setdefault(grade, []).append(false["new"])
        return
    for number, true in enumerate(sessions.changes, start=1):
        alike = ("new", "enlarging") if true.change in ("new", "enlarging") else ("resolved", "smaller")
        found = any(
            number in true_numbers[one.number] and one.change in alike and (grade == "C" or not one.possible)
            for one in result.changes
        )
        in_mask = bool((examined.labels[current.labels == number] > 0).any())
        scores.true.setdefault(grade, []).append(
            TrueScore(true.change, max(true.volume_mm3, true.prior_volume_mm3), in_mask, found)
        )


def heads(data: Path | None) -> list[Anatomy | Path]:
    """Return the label maps of a folder; the head of the template where it has none."""
    return [*(label_maps(data) if data is not None else ())] or [*load_anatomies(None)]


def synthetic_sessions(data: Path | None, *, series: int, seed: int) -> Iterator[Sessions]:
    """Yield the sessions of so many heads."""
    known = heads(data)
    for number in range(series):
        rng = np.random.default_rng((2026 + seed, number))
        head = known[number % len(known)]
        anatomy = head if isinstance(head, Anatomy) else from_label_map(head)
        turn = number % len(GRADES)
        yield sessions_of(label_map_base(anatomy, rng), GRADES[turn], turn, rng)


def score_sessions(sessions: Sessions, examiner: Callable[[Volume], Examined], scores: Scores) -> None:
    """Score the three pairs of a head: changed, changed by another earlier session, and unchanged."""
    scans = (sessions.prior, sessions.unchanged, sessions.current)
    asked = [examiner(scan.volume) for scan in scans]
    for later, earlier in ((2, 0), (2, 1), (1, 0)):
        result = compare(asked[later], asked[earlier], lambda _stage, _seconds: None)
        then = _on_current(scans[earlier], scans[later], result)
        score(result, scans[later], then, sessions, asked[later], scores, changed=later == 2)


def _on_current(prior: Scanned, current: Scanned, result: Comparison) -> np.ndarray:
    """Return the true changes of the earlier session where they lie in the later one."""
    if result.current_to_prior is None:
        return np.zeros_like(current.labels)
    reverse = np.eye(4)[[2, 1, 0, 3]]
    matrix = (
        reverse
        @ np.linalg.inv(prior.volume.affine)
        @ result.current_to_prior
        @ current.volume.affine
        @ reverse
    )
    return np.asarray(
        ndimage.affine_transform(
            prior.labels, matrix[:3, :3], matrix[:3, 3], output_shape=current.labels.shape, order=0
        )
    )


@dataclass(frozen=True)
class MovedScore:
    """A real scan against its moved copy: how many sure changes are told, and the total volumes of both."""

    scan: str
    grade: Grade
    new: int
    resolved: int
    other: int
    volume_mm3: float
    copy_mm3: float
    refused: str


def real_scans(data: Path | None) -> Iterator[Path]:
    """Yield the real FLAIR scans of a folder, by their names."""
    if data is None:
        return
    for path in sorted(data.rglob("*.nii.gz")):
        if "flair" in path.name.casefold() and "phantom" not in path.name:
            yield path


def read_scan(path: Path) -> Volume:
    """Return a scan in whole numbers, its slices towards Superior.

    Raises
    ------
    DataSetError
        The file can't be read.
    """
    try:
        image = nib.as_closest_canonical(nib.load(path))
        values = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float32).squeeze().T)
    except (OSError, ValueError, nib.filebasedimages.ImageFileError) as error:
        raise DataSetError(f"{path.name} can't be read as NIfTI; take it out of --data") from error
    bright = values[values > 0]
    scale = READ_AS / float(np.percentile(bright, 95)) if bright.size else 1.0
    affine = lps_affine(image.affine)
    return Volume(
        np.ascontiguousarray(np.rint(values * np.float32(scale))),
        affine,
        {"SliceThickness": float(np.linalg.norm(affine[:3, 2]))},
    )


def moved_score(path: Path, data: Path, examiner: Callable[[Volume], Examined]) -> MovedScore:
    """Compare a real scan with a copy that was moved, laid into other slices, shaded and made noisier."""
    name = str(path.relative_to(data)).removesuffix(".nii.gz")
    one = examiner(read_scan(path))
    copy = examiner(moved_copy(one.volume, one.brain, np.random.default_rng(zlib.crc32(name.encode()))))
    return moved_score_of(name, compare(copy, one, lambda _stage, _seconds: None))


def moved_score_of(name: str, result: Comparison) -> MovedScore:
    """Return the score of a comparison in which nothing has changed."""
    other = result.count("enlarging") + result.count("smaller")
    return MovedScore(
        name,
        result.comparability.grade,
        result.count("new"),
        result.count("resolved"),
        other,
        result.prior_volume_mm3,
        result.volume_mm3,
        result.not_compared,
    )


def targets_of(scores: Scores, moved: Sequence[MovedScore]) -> list[Target]:
    """Return what is asked of the comparison, and what it reaches."""
    targets = []
    for grade, most in MOST_FALSE.items():
        counts = scores.unchanged_new.get(grade, [])
        if counts:
            mean = float(np.mean(counts))
            asked = f"false new lesions a pair without change at most {most:g}"
            targets.append(
                Target(f"{len(counts)} pairs, grade {grade}", asked, mean, most - mean, "synthetic")
            )
    of_grade = [one for grade, ones in scores.true.items() if grade in ("A", "B") for one in ones]
    for least, share in SENSITIVITY.items():
        shown = [
            one.found for one in of_grade if one.change == "new" and one.volume_mm3 >= least and one.in_mask
        ]
        targets += _share(f"{len(shown)} new lesions of {least:g} mm3 and more in the mask", shown, share)
    grown = [one.found for one in of_grade if one.change in ("enlarging", "smaller")]
    targets += _share(f"{len(grown)} grown or shrunk lesions", grown, GROWTH)
    if moved:
        told = float(sum(one.new + one.resolved for one in moved))
        case = f"{len(moved)} scans and their moved copies"
        targets.append(Target(case, "new and resolved lesions at most 0", told, -told, "real"))
    return targets


def _share(case: str, found: Sequence[bool], least: float) -> list[Target]:
    if not found:
        return []
    mean = float(np.mean(found))
    return [Target(case, f"share found at least {least:g}", mean, mean - least, "synthetic")]


def report_lines(scores: Scores, moved: Sequence[MovedScore]) -> list[str]:
    """Return targets, and what stands behind them."""
    lines = [target.text() for target in targets_of(scores, moved)]
    for grade in MOST_FALSE:
        pairs = scores.false_new.get(grade, [])
        if pairs:
            others = sum(scores.false_other.get(grade, ()))
            lines.append(
                f"grade {grade}: {len(pairs)} pairs, {sum(pairs)} false new, {others} other false changes"
            )
        for low, high in ((0, 30), (30, 100), (100, np.inf)):
            new = [
                one
                for one in scores.true.get(grade, ())
                if one.change == "new" and low <= one.volume_mm3 < high
            ]
            if new:
                lines.append(
                    f"grade {grade}: new lesions of {low:g} to {high:g} mm3: {sum(one.found for one in new)} of {len(new)}"
                    f" found, {sum(one.in_mask for one in new)} in the mask"
                )
    for one in moved:
        said = one.refused or f"{one.new} new, {one.resolved} resolved, {one.other} other"
        change = 100 * (one.copy_mm3 / one.volume_mm3 - 1) if one.volume_mm3 else 0.0
        lines.append(f"{one.scan} (real), moved: grade {one.grade}, {said}; volume {change:+.0f} %")
    return lines


def examiner_for(weights: Path, device: str, folder: Path | None) -> Examiner:
    """Return the mask's networks as an examiner that keeps its answers in a folder."""
    from pipelines.flair.segmenter import MaskModel  # noqa: PLC0415 (takes seconds)

    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return Examiner(MaskModel(device, weights), folder)
