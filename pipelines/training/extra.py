"""Packages that a training needs and the node does not: the extra ``train``, behind one getter."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pipelines.errors import PipelineError


def package(name: str) -> Any:
    """Return a module of the extra ``train`` by its name, such as ``matplotlib.figure``.

    Raises
    ------
    PipelineError
        Its package is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        wanted = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != wanted:
            raise
        raise PipelineError(
            f'trainings and their scores need the package {wanted}, which is not installed: pip install "dicom-node[train]"'
        ) from error


def need(*names: str) -> None:
    """Fail before the work, not at its end, where a package of the extra ``train`` is missing; see `package`."""
    for name in names:
        package(name)
