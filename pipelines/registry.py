"""Which pipelines are installed and how to get one; importing this loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.errors import PipelineError
from pipelines.flair import settings
from pipelines.types import Pipeline, PipelineInfo


@dataclass(frozen=True)
class _Entry:
    """An installed pipeline before the digest of all its weights is known."""

    title: str
    version: str
    weights_digest: Callable[[], str]
    default_settings: Callable[[], dict[str, object]]
    make: Callable[[str], Pipeline]


def _make_flair(device: str) -> Pipeline:
    from pipelines.flair.pipeline import load_flair  # noqa: PLC0415 (the node starts without torch)

    return load_flair(device)


_ENTRIES = {
    "flair": _Entry(
        title="FLAIR lesions",
        version="1.0.0",
        weights_digest=settings.weights_digest,
        default_settings=settings.default_settings,
        make=_make_flair,
    ),
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
        for name, entry in _ENTRIES.items()
    }


def load(name: str, device: str = "auto") -> Pipeline:
    """Return a pipeline with its weights on a device: "auto", "cpu", "cuda", "cuda:1".

    Raises
    ------
    PipelineError
        There is no such pipeline, its weights are missing or damaged, or there is no such device.
    """
    if name not in _ENTRIES:
        raise PipelineError(f'no pipeline "{name}" installed; there is: {", ".join(sorted(_ENTRIES))}')
    return _ENTRIES[name].make(device)
