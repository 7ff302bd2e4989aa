"""Registry of the installed pipelines, and how to get one; importing this loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines import weights
from pipelines.errors import PipelineError
from pipelines.fatsat import settings as fatsat_settings
from pipelines.flair import settings as flair_settings
from pipelines.types import Pipeline, PipelineInfo


@dataclass(frozen=True)
class _Entry:
    """A pipeline before the digest of all its weights is known; installed where the weights that it needs are."""

    title: str
    version: str
    weights_digest: Callable[[], str]
    default_settings: Callable[[], dict[str, object]]
    make: Callable[[str], Pipeline]
    needs: str | None = None


def _make_flair(device: str) -> Pipeline:
    from pipelines.flair.pipeline import load_flair  # noqa: PLC0415 (the node starts without torch)

    return load_flair(device)


def _make_fatsat(device: str) -> Pipeline:
    from pipelines.fatsat.pipeline import load_fatsat  # noqa: PLC0415

    return load_fatsat(device)


_ENTRIES = {
    "flair": _Entry(
        title="FLAIR lesions",
        version="1.0.0",
        weights_digest=flair_settings.weights_digest,
        default_settings=flair_settings.default_settings,
        make=_make_flair,
    ),
    "fatsat": _Entry(
        title="FAT-SAT optic nerves",
        version="1.0.0",
        weights_digest=fatsat_settings.weights_digest,
        default_settings=fatsat_settings.default_settings,
        make=_make_fatsat,
        needs=fatsat_settings.WEIGHTS["published"],
    ),
}


NAMES = tuple(_ENTRIES)
"""All pipelines that this version has, whether their weights are there or not."""


def _there() -> dict[str, _Entry]:
    """Return the pipelines whose weights are installed; one without any is none, not a broken one."""
    return {
        name: entry
        for name, entry in _ENTRIES.items()
        if entry.needs is None or (weights.FOLDER / f"{entry.needs}.json").exists()
    }


def installed() -> dict[str, PipelineInfo]:
    """Return what is known of each installed pipeline, by name.

    Raises
    ------
    WeightsError
        A pipeline's model card is missing or unreadable.
    """
    return {
        name: PipelineInfo(
            name=name,
            title=entry.title,
            version=entry.version,
            weights_digest=entry.weights_digest(),
            default_settings=entry.default_settings(),
        )
        for name, entry in _there().items()
    }


def load(name: str, device: str = "auto") -> Pipeline:
    """Return a pipeline with its weights on a device: "auto", "cpu", "cuda", "cuda:1".

    Raises
    ------
    PipelineError
        There is no such pipeline, its weights are missing or damaged, or there is no such device.
    """
    there = _there()
    if name not in there:
        raise PipelineError(f'no pipeline "{name}" installed; there is: {", ".join(sorted(there))}')
    return there[name].make(device)
