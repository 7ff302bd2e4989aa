"""Fit of the regressions that weigh the evidence of change: on synthetic pairs, and on real scans and their moved copies.

Each core of the rule is a case, in both directions of time. It is a true change where it touches a lesion that changed that
way, and is left out where it touches one that changed the other way; between a scan and its copy nothing has changed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.change.compare import pair_of, seen_from
from pipelines.change.evidence import Evidence, Regression, with_margin
from pipelines.change.halfway import native_grid
from pipelines.change.rule import LIMITS, Core, cores_of
from pipelines.change.tracing import nearest
from pipelines.comparability import acquisition_of, compare_acquisitions
from pipelines.comparison import Examined
from pipelines.errors import DataSetError
from pipelines.stages import Run
from pipelines.training.change.evaluation import read_scan, real_scans, synthetic_sessions
from pipelines.training.change.pairs import Sessions, TrueChange, label_maps
from pipelines.training.change.rescan import moved_copy
from pipelines.types import Volume

HEADS = 8
"""Synthetic heads of the fit, of three pairs each."""
FOLDS = 15
"""Of the cross-validation, by head and scan."""
PENALTY = 1.0
"""C of the L2 penalty, on standardised values."""
USED = {
    "APART": (True, True, False, False, True, True, False),
    "AT_OLD": (True, True, True, True, True, True, True),
}
"""Values of the evidence that each regression weighs: volumes of lesions tell nothing where the earlier scan has none."""
GROWING = ("new", "enlarging")
_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
LabelArray = npt.NDArray[np.int32]
FloatMatrix = npt.NDArray[np.float64]
Examine = Callable[[Volume], Examined]


@dataclass(frozen=True)
class Case:
    """Core of a pair whose changes are known.

    Parameters
    ----------
    source : str
        The head or scan that it is of; cross-validation leaves out whole ones.
    evidence : Evidence
    is_new : bool
        The rule asks of it what it asks of a new lesion.
    is_true : bool
        A lesion has changed there.
    """

    source: str
    evidence: Evidence
    is_new: bool
    is_true: bool

    @property
    def regression(self) -> str:
        """The regression that weighs it."""
        return "AT_OLD" if self.evidence.at_old > 0 else "APART"


@dataclass(frozen=True)
class Fit:
    """A regression, and how sure the same fit is of cores of heads and scans that were left out.

    Parameters
    ----------
    regression : Regression
    true, other : int
        Cores that are changes, and that are none.
    true_sure, other_sure : int
        Those to which the fit without their head gave the likelihood that the rule asks of sure changes.
    """

    regression: Regression
    true: int
    other: int
    true_sure: int
    other_sure: int


def fit(cases: Sequence[Case], used: Sequence[bool]) -> Fit:
    """Fit one regression to its cases.

    Raises
    ------
    DataSetError
        They are of one head, or all are true, or none is.
    """
    from sklearn.model_selection import GroupKFold, cross_val_predict  # noqa: PLC0415 (takes seconds)

    truth = np.array([case.is_true for case in cases], dtype=bool)
    sources = [case.source for case in cases]
    folds = min(FOLDS, len(set(sources)))
    if folds < 2 or truth.all() or not truth.any():
        raise DataSetError(
            "too few changes to fit to; give a --data with head_labels/ and FLAIR scans of several patients"
        )
    values = np.stack([case.evidence.values() for case in cases])[:, np.array(used)]
    left_out = cross_val_predict(
        _estimator(), values, truth, groups=sources, cv=GroupKFold(folds), method="predict_proba"
    )[:, 1]
    asked = np.array([(LIMITS.new if case.is_new else LIMITS.growth).sure for case in cases])
    sure = left_out >= asked
    return Fit(
        _regression(values, truth, used),
        int(truth.sum()),
        int((~truth).sum()),
        int((sure & truth).sum()),
        int((sure & ~truth).sum()),
    )


def _estimator() -> Any:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    return make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=1000))


def _regression(values: FloatMatrix, truth: npt.NDArray[np.bool_], used: Sequence[bool]) -> Regression:
    """Return the regression on values as they are, not standardised."""
    scaler, logistic = _estimator().fit(values, truth)
    slopes = logistic.coef_[0] / scaler.scale_
    weights = np.zeros(len(used))
    weights[np.array(used)] = slopes
    intercept = float(logistic.intercept_[0] - (slopes * scaler.mean_).sum())
    one, two, three, four, five, six, seven = (round(float(weight), 3) for weight in weights)
    return Regression(round(intercept, 3), (one, two, three, four, five, six, seven))


def cases_of_pair(
    current: Examined,
    prior: Examined,
    truth: tuple[LabelArray, LabelArray],
    changes: Sequence[TrueChange],
    source: str,
) -> Iterator[Case]:
    """Yield the cases of one pair.

    Parameters
    ----------
    truth : two int32 arrays, shape (k, j, i)
        The number of the true change in the voxels of the current and of the prior scan.
    changes : sequence of TrueChange
        Number 1 first; none where nothing has changed.
    """
    comparability = compare_acquisitions(acquisition_of(current.volume), acquisition_of(prior.volume))
    pair, current_is_second = pair_of(current, prior, comparability, Run(lambda _stage, _seconds: None))
    if pair.refused:
        return
    now, then, smooth = seen_from(pair, current_is_second=current_is_second)
    grid, noise = pair.common.grid, pair.difference.noise
    to_current, to_prior = pair.common.to_first, pair.common.to_second
    if current_is_second:
        to_current, to_prior = to_prior, to_current
    labels = (
        nearest(truth[0], native_grid(current), grid, to_current),
        nearest(truth[1], native_grid(prior), grid, to_prior),
    )
    for is_growth, (later, earlier, rise) in (
        (True, (now, then, smooth)),
        (False, (then, now, -smooth)),
    ):
        for core in cores_of(later, earlier, rise, noise, grid.spacing_mm):
            touched = _touched(core, labels, grid.spacing_mm) if changes else set()
            alike = {n for n in touched if (changes[n - 1].change in GROWING) == is_growth}
            if touched and not alike:
                continue
            yield Case(source, core.evidence, core.is_apart, bool(alike))


def _touched(
    core: Core, labels: tuple[LabelArray, LabelArray], spacing_mm: tuple[float, float, float]
) -> set[int]:
    """Return the numbers of the true changes that a core lies in or touches."""
    wide, at = with_margin(core.box, labels[0].shape, spacing_mm, 0.0)
    inside = np.zeros([s.stop - s.start for s in wide], dtype=bool)
    inside[at] = core.inside
    region = ndimage.binary_dilation(inside, _NEIGHBOURS)
    return {int(n) for of in labels for n in np.unique(of[wide][region])} - {0}


def cases_of_head(sessions: Sessions, examine: Examine, source: str) -> Iterator[Case]:
    """Yield the cases of a head's three pairs: changed, changed by another earlier session, and unchanged."""
    scans = (sessions.prior, sessions.unchanged, sessions.current)
    asked = [examine(scan.volume) for scan in scans]
    for later, earlier in ((2, 0), (2, 1), (1, 0)):
        truth = (scans[later].labels, scans[earlier].labels)
        changes = sessions.changes if later == 2 else ()
        yield from cases_of_pair(asked[later], asked[earlier], truth, changes, source)


def cases_of_copy(path: Path, data: Path, examine: Examine) -> Iterator[Case]:
    """Yield the cases of a real scan and a moved copy of it, none of them true."""
    name = str(path.relative_to(data)).removesuffix(".nii.gz")
    one = examine(read_scan(path))
    copy = examine(moved_copy(one.volume, one.brain, np.random.default_rng(zlib.crc32(name.encode()))))
    nothing = (np.zeros(copy.labels.shape, np.int32), np.zeros(one.labels.shape, np.int32))
    yield from cases_of_pair(copy, one, nothing, (), name)


def fitted(data: Path, examine: Examine, report: Callable[[str], None]) -> dict[str, Fit]:
    """Return both regressions, fitted on the label maps and the real FLAIR scans of a folder.

    Raises
    ------
    DataSetError
        It has no label maps or no scans, which is known before anything is computed; or what `fit` raises.
    """
    scans = list(real_scans(data))
    if not label_maps(data) or not scans:
        raise DataSetError(
            f"{data} has no {'FLAIR scans' if label_maps(data) else 'label maps in head_labels/'}, and the fit needs both;"
            " give a --data with head_labels/ and *flair*.nii.gz of several patients"
        )
    cases: list[Case] = []
    for number, sessions in enumerate(synthetic_sessions(data, series=HEADS, seed=0), start=1):
        report(f"head {number} of {HEADS}, grade {sessions.grade}")
        cases += cases_of_head(sessions, examine, f"head {number}")
    for path in scans:
        report(f"scan {path.name}")
        cases += cases_of_copy(path, data, examine)
    return {
        name: fit([case for case in cases if case.regression == name], used) for name, used in USED.items()
    }


def fit_lines(fits: dict[str, Fit]) -> list[str]:
    """Return the regressions as `pipelines.change.evidence` has them, each with its figures."""
    lines = []
    for name, one in fits.items():
        lines += [
            f"{name} = {one.regression}",
            f"  {one.true} cores that are changes and {one.other} that are none; with their heads left out"
            f" {one.true_sure} and {one.other_sure} of these were sure",
        ]
    return lines
