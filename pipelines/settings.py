"""Settings that all pipelines have in common: checks, and the digest of the weights behind them; loads no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipelines import weights
from pipelines.errors import PipelineError


def with_defaults(
    given: Mapping[str, object], known: Mapping[str, object], pipeline: str
) -> dict[str, object]:
    """Return every known setting, as given or else by default.

    Raises
    ------
    PipelineError
        One that is given is not known.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise PipelineError(
            f'unknown setting "{unknown[0]}" of the {pipeline} pipeline; it has: {", ".join(sorted(known))}'
        )
    return {**known, **given}


def checked_members(value: object, pipeline: str) -> int:
    """Return a number of networks; raises `PipelineError` where it is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PipelineError(f"members of the {pipeline} pipeline must be 1 or more, not {value!r}")
    return value


def checked_threshold(value: object, pipeline: str) -> float:
    """Return a threshold; raises `PipelineError` where it does not lie between 0 and 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 1.0:
        raise PipelineError(f"threshold of the {pipeline} pipeline must be between 0 and 1, not {value!r}")
    return float(value)


def digest_of(names: Iterable[str], decisive: Iterable[str], folder: Path) -> str:
    """Return one digest (sha256, hex) for several weights, and for what their cards add to the numbers.

    Parameters
    ----------
    names : iterable of str
        Of the weights.
    decisive : iterable of str
        What a card says beside its digest that changes results.

    Raises
    ------
    WeightsError
        A model card is missing or unreadable.
    """
    keys = ("digest", *decisive)
    lines = []
    for name in sorted(names):
        details = weights.card_details(name, folder)
        told = {key: details.get(key) for key in keys}
        lines.append(f"{name}:{json.dumps(told, sort_keys=True)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
