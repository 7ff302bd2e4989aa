"""Batches from a pool of cases: crops, half of them on lesions, or whole volumes, lightly varied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.flair.intensity import BACKGROUND, LIMIT
from pipelines.training.data_sets.sample import Sample, kinds_in, unpack
from pipelines.types import FloatArray

ON_LESIONS = 0.45
"""Share of crops that are centred near a lesion, where there is one."""


def crop_start(sample: Sample, edge: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Choose the corner of a crop: around a lesion voxel or around a brain voxel."""
    of = sample.lesions if sample.lesions.any() and rng.random() < ON_LESIONS else sample.image > BACKGROUND
    flat = np.flatnonzero(of)
    size = of.shape
    centre = np.array(np.unravel_index(int(rng.choice(flat)), size) if len(flat) else [n // 2 for n in size])
    start = centre - edge // 2 + rng.integers(-edge // 4, edge // 4 + 1, 3)
    k, j, i = np.clip(start, 0, np.array(size) - edge)
    return int(k), int(j), int(i)


def vary(image: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Change gain, offset and noise of a normalised volume; the background stays what it is."""
    brain = image > BACKGROUND
    changed = image * np.float32(np.exp(rng.normal(0, 0.12))) + np.float32(rng.normal(0, 0.3))
    if rng.random() < 0.3:
        changed = changed + np.float32(rng.uniform(0, 0.35)) * rng.standard_normal(
            image.shape, dtype=np.float32
        )
    return np.where(brain, np.clip(changed, BACKGROUND, LIMIT), np.float32(BACKGROUND))


def draw_batch(
    files: list[Path], size: int, edge: int, rng: np.random.Generator, *, labelled: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw cases and cut an edge-cubed crop of each.

    Parameters
    ----------
    labelled : bool
        Take cases with a class three times of four.

    Returns
    -------
    image, lesions, weight : float32 Tensors, shape (B, 1, edge, edge, edge)
        The weight is 0 where the truth is not known (`Sample.ignore`), else 1.
    target : int64 Tensor, shape (B,)
    kinds : uint8 Tensor, shape (B, edge, edge, edge)
        Of the lesions; see `sample.kinds_in`.
    """
    images, lesions, weights, targets, kinds = [], [], [], [], []
    for _ in range(size):
        sample = unpack(files[int(rng.integers(len(files)))])
        tries = 8 if labelled and rng.random() < 0.75 else 0
        while tries and sample.target < 0:
            sample = unpack(files[int(rng.integers(len(files)))])
            tries -= 1
        k, j, i = crop_start(sample, edge, rng)
        box = (slice(k, k + edge), slice(j, j + edge), slice(i, i + edge))
        image, truth, kind = vary(sample.image[box], rng), sample.lesions[box], kinds_in(sample)[box]
        known = np.ones(truth.shape, bool) if sample.ignore is None else ~sample.ignore[box]
        if rng.random() < 0.5:
            # Left-right only: the other axes of a head do not mirror.
            image, truth = image[:, :, ::-1], truth[:, :, ::-1]
            known, kind = known[:, :, ::-1], kind[:, :, ::-1]
        images.append(image)
        lesions.append(truth)
        weights.append(known)
        targets.append(sample.target)
        kinds.append(kind)
    x = torch.from_numpy(np.stack(images)[:, None]).contiguous(memory_format=torch.channels_last_3d)
    y, w = (torch.from_numpy(np.stack(part)[:, None].astype(np.float32)) for part in (lesions, weights))
    return x, y, w, torch.tensor(targets), torch.from_numpy(np.stack(kinds))
