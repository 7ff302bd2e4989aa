"""Examinations as a comparison needs them, and their files: kept after an analysis, read when the series is a prior or current.

A file holds the brain and the lesions' labels within their box, and the probability there in steps of 1/255: a tenth of
what its images take. It counts only for the very pixels that it was made of.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, TypeAdapter, ValidationError

from dicom_node.spool.durable import write_durably
from dicom_node.spool.series_folder import make_folder
from pipelines.comparison import Examined
from pipelines.types import Findings, FloatArray, Lesion, ModelCard, Volume

log = logging.getLogger(__name__)

STEPS: Final = 255
"""Probabilities are kept as whole numbers of so many."""


class _Words(BaseModel):
    pixels: str
    shape: tuple[int, int, int]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    lesions: tuple[Lesion, ...]
    models: tuple[ModelCard, ...]


def examined_of(findings: Findings, volume: Volume) -> Examined | None:
    """Return the examination that findings are of, its probabilities in steps as in a file; None where they have no brain.

    What is not like demyelination is not compared either.
    """
    brain, probability, labels = findings.brain, findings.probability, findings.labels
    if findings.status not in ("findings", "none") or brain is None or probability is None or labels is None:
        return None
    if findings.not_typical:
        return None
    named = findings.tasks.get("mask", ())
    cards = tuple(card for card in findings.models if card.name in named) or findings.models
    coarse = _from_steps(_steps(np.where(brain | (labels > 0), probability, np.float32(0))))
    return Examined(volume, brain, coarse, labels, findings.lesions, cards)


def keep_examined(examined: Examined, path: Path) -> None:
    """Write an examination, durably; its folder is made.

    Raises
    ------
    SpoolError
        It can't be written.
    """
    box = _box(examined.brain | (examined.labels > 0))
    words = {
        "pixels": pixel_digest(examined.volume),
        "shape": examined.brain.shape,
        "box": [(part.start, part.stop) for part in box],
        "lesions": [asdict(lesion) for lesion in examined.lesions],
        "models": [asdict(card) for card in examined.models],
    }
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        words=np.frombuffer(json.dumps(words, default=_plain).encode(), dtype=np.uint8),
        brain=np.packbits(examined.brain[box]),
        probability=_steps(examined.probability[box]),
        labels=examined.labels[box].astype(np.uint16),
    )
    make_folder(path.parent)
    write_durably(path, stream.getvalue())


def kept_examination(path: Path, volume: Volume) -> Examined | None:
    """Return the examination of a volume that was kept; None where there is none, or it is of other pixels."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in ("words", "brain", "probability", "labels")}
        words = _form().validate_json(arrays["words"].tobytes())
        if words.pixels != pixel_digest(volume) or words.shape != volume.array.shape:
            return None
        return _unpacked(words, arrays, volume)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, ValidationError, zipfile.BadZipFile) as error:
        log.warning("%s is not read: %s; the series is analysed again", path.name, type(error).__name__)
        return None


def pixel_digest(volume: Volume) -> str:
    """Return the digest of a volume's intensities and of where it lies."""
    digest = hashlib.sha256()
    for part in (volume.array, volume.affine):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _unpacked(words: _Words, arrays: dict[str, npt.NDArray[Any]], volume: Volume) -> Examined:
    box = tuple(slice(*ends) for ends in words.box)
    inner = tuple(stop - start for start, stop in words.box)
    brain = np.zeros(words.shape, dtype=bool)
    brain[box] = np.unpackbits(arrays["brain"], count=int(np.prod(inner))).reshape(inner).astype(bool)
    probability: FloatArray = np.zeros(words.shape, dtype=np.float32)
    probability[box] = _from_steps(arrays["probability"])
    labels = np.zeros(words.shape, dtype=np.int32)
    labels[box] = arrays["labels"]
    return Examined(volume, brain, probability, labels, words.lesions, words.models)


def _steps(probability: FloatArray) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(np.clip(probability, 0.0, 1.0) * STEPS), dtype=np.uint8)


def _from_steps(steps: npt.NDArray[np.uint8]) -> FloatArray:
    return np.asarray(steps.astype(np.float32) / np.float32(STEPS), dtype=np.float32)


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Return the smallest box (k, j, i) around a mask; of one voxel where it is empty."""
    found = []
    for axis in range(3):
        at = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        found.append(slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, 1))
    return found[0], found[1], found[2]


@cache
def _form() -> TypeAdapter[_Words]:
    return TypeAdapter(_Words)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)


Analyse = Callable[[Volume], Examined]
"""Analysis by the networks behind an examination."""
