"""Settings of the FAT-SAT pipeline, and the weights that it uses; importing this loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from pipelines import weights
from pipelines.errors import PipelineError
from pipelines.settings import checked_members, checked_threshold, digest_of, with_defaults
from pipelines.types import Laterality, Point

CropKind = Literal["published", "along-nerve"]
KINDS: tuple[CropKind, ...] = get_args(CropKind)
WEIGHTS: Mapping[CropKind, str] = {"published": "fatsat", "along-nerve": "fatsat-along-nerve"}
"""The ensemble for each crop; a network knows the crop that it was trained on."""
LARGEST_ENSEMBLE = 32
"""Members that ship at most; the paper has 200."""
DECISIVE = ("network", "members", "threshold", "crop")
"""What a model card says beside the weights' digest that changes results."""
_SIDES: tuple[Laterality, ...] = get_args(Laterality)


@dataclass(frozen=True)
class Settings:
    """The settings of one analysis.

    Parameters
    ----------
    members : int
        How many networks of the ensemble to ask; all where there are fewer.
    threshold : float or None
        Probability from which an eye is positive; None: that of the model card.
    crop : "published", "along-nerve" or None
        See `pipelines.fatsat.crop`; each has an ensemble of its own. None: see `crop_used`.
    points : mapping of "left" and "right" to points, or None
        Where a person saw the nerve leave the globe, mm, LPS; in place of the point that is found.
    """

    members: int = LARGEST_ENSEMBLE
    threshold: float | None = None
    crop: CropKind | None = None
    points: Mapping[Laterality, Point] | None = None


def default_settings() -> dict[str, object]:
    """Return every setting with its default."""
    return asdict(Settings())


def settings_of(given: Mapping[str, object]) -> Settings:
    """Return checked settings; what is not given has its default.

    Raises
    ------
    PipelineError
        A setting is unknown or out of range.
    """
    values = with_defaults(given, default_settings(), "fatsat")
    threshold, crop = values["threshold"], values["crop"]
    kind = next((known for known in KINDS if known == crop), None)
    if crop is not None and kind is None:
        raise PipelineError(f"crop of the fatsat pipeline must be {' or '.join(KINDS)}, not {crop!r}")
    return Settings(
        members=checked_members(values["members"], "fatsat"),
        threshold=None if threshold is None else checked_threshold(threshold, "fatsat"),
        crop=kind,
        points=points_of(values["points"]),
    )


def points_of(given: object) -> dict[Laterality, Point] | None:
    """Return a person's points, checked.

    Parameters
    ----------
    given : mapping or None
        ``{"left": [x, y, z], "right": [x, y, z]}``, mm, LPS; one side or both.

    Raises
    ------
    PipelineError
        It is something else.
    """
    if given is None:
        return None
    form = 'points of the fatsat pipeline are {"left": [x, y, z], "right": [x, y, z]} in mm (LPS), one side or both'
    if not isinstance(given, Mapping) or not given:
        raise PipelineError(f"{form}, not {given!r}")
    unknown = [key for key in given if key not in _SIDES]
    if unknown:
        raise PipelineError(f"{form}; {unknown[0]!r} is no side")
    found: dict[Laterality, Point] = {}
    for side in _SIDES:
        if side not in given:
            continue
        point = given[side]
        if not isinstance(point, list | tuple) or len(point) != 3:
            raise PipelineError(f"{form}; {side} has {point!r}")
        if any(isinstance(v, bool) or not isinstance(v, int | float) or not math.isfinite(v) for v in point):
            raise PipelineError(f"{form}; {side} has {point!r}")
        found[side] = (float(point[0]), float(point[1]), float(point[2]))
    return found


def crop_used(crop: CropKind | None, folder: Path = weights.FOLDER) -> CropKind:
    """Return a crop; where none is asked for, of those whose weights are installed the one that has learnt from patients.

    [ours] Where both have, or neither, the one along the nerve: on phantoms of heads that were kept out of the training it is
    the better one.
    """
    if crop is not None:
        return crop
    there = weights.installed(folder)
    kinds: list[CropKind] = [kind for kind in ("along-nerve", "published") if WEIGHTS[kind] in there]
    real = [kind for kind in kinds if weights.card(WEIGHTS[kind], folder).trained_on != "synthetic"]
    return next(iter(real + kinds), "published")


def weights_used(folder: Path = weights.FOLDER) -> tuple[str, ...]:
    """Return the names of the weights that the pipeline uses, as far as they are installed; the published crop's always."""
    there = weights.installed(folder)
    return tuple(name for kind, name in WEIGHTS.items() if kind == "published" or name in there)


def weights_digest(folder: Path = weights.FOLDER) -> str:
    """Return one digest (sha256, hex) for all weights that the pipeline uses, and for what their cards add to the numbers.

    Raises
    ------
    WeightsError
        A model card is missing or unreadable.
    """
    return digest_of(weights_used(folder), DECISIVE, folder)
