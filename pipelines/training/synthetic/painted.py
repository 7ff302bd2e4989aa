"""Real scans with lesions of MS and of NMOSD: their own filled in, those of the priors painted over.

[ours] A network of classes that has learnt from synthetic heads alone sees real ones otherwise. Real scans of one disease teach
it nothing, since it would learn their scanner. Here both classes lie in the same scans, and differ in nothing but what the
priors say.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy import ndimage

from pipelines.flair.intensity import normalise
from pipelines.training.data_sets.cube import SPACING_MM
from pipelines.training.data_sets.sample import Sample, target_of
from pipelines.training.synthetic.anatomy import Anatomy, Tissue, finished, load_anatomies, mni_extents
from pipelines.training.synthetic.artefacts import smooth_field
from pipelines.training.synthetic.lesions import draw_lesions, places
from pipelines.training.synthetic.mixing import (
    bend,
    brain_of,
    local_white,
    may_be_painted,
    painted,
    rescan,
    signal,
)
from pipelines.training.synthetic.priors import Label

DARK = 0.6
"""Brightest fluid, white matter being 1."""
VENTRICLE_REACH_MM = 8.0
"""Fluid as near as this to the template's ventricles, and `VENTRICLE_DEPTH_MM` below the brain's surface, is ventricle."""
VENTRICLE_DEPTH_MM = 15.0
RIM_VOXELS = 1
"""Filled in around a scan's own lesions."""
GRAIN = 0.04
"""Spread of what is filled in, a scan's own texture being that of its lesions."""


@lru_cache(maxsize=1)
def _template() -> Anatomy:
    return load_anatomies(None)[0]


def anatomy_of(sample: Sample, name: str = "scan") -> Anatomy:
    """Return the tissues of a real scan: those of the MNI152 template, extents matched, fluid and ventricles as it shows them.

    Parameters
    ----------
    sample : Sample
        Without lesions; see `without_lesions`.
    """
    template, brain = _template(), brain_of(sample)
    scale, origin = mni_extents(brain)
    ratio = (scale / template.mni_scale)[::-1]
    shift = ((origin - template.mni_origin) / template.mni_scale)[::-1]
    labels = ndimage.affine_transform(template.labels, ratio, shift, brain.shape, order=0)
    labels[labels == Tissue.BRIGHT_CORTEX] = Tissue.CORTEX
    labels[labels == Tissue.BRIGHT_TRACT] = Tissue.WHITE
    dark = brain & (ndimage.gaussian_filter(signal(sample), 0.5) < DARK)
    expected = labels == Tissue.VENTRICLE
    near = ndimage.distance_transform_edt(~expected, sampling=SPACING_MM) < VENTRICLE_REACH_MM
    # Fluid without any signal has the value of the background.
    whole = ndimage.binary_closing(brain, iterations=3)
    dark |= whole & ~brain
    deep = ndimage.distance_transform_edt(whole, sampling=SPACING_MM) > VENTRICLE_DEPTH_MM
    labels[expected & ~dark] = Tissue.WHITE
    labels[brain & ~dark & (labels <= Tissue.FLUID)] = Tissue.CORTEX
    labels[dark] = Tissue.FLUID
    labels[dark & near & deep] = Tissue.VENTRICLE
    labels[~whole] = Tissue.AIR
    return finished(name, labels)


def without_lesions(sample: Sample, rng: np.random.Generator) -> Sample:
    """Return a scan whose lesions, and what may be one, are filled with the white matter around them."""
    brain, image = brain_of(sample), signal(sample)
    own = sample.lesions if sample.ignore is None else sample.lesions | sample.ignore
    own = ndimage.binary_dilation(own, iterations=RIM_VOXELS) & brain
    # What is dark there, ventricle or fluid beside a lesion, stays.
    share = ndimage.gaussian_filter((own & (image > 0.8)).astype(np.float32), 0.6)
    filled = local_white(image, brain & ~own) + np.float32(GRAIN) * smooth_field(brain.shape, 60, rng)
    image = image * (1 - share) + filled * share
    return Sample(normalise(image, brain), np.zeros_like(brain), sample.target)


def paint_class(sample: Sample, anatomy: Anatomy, label: Label, rng: np.random.Generator) -> Sample:
    """Return a scan without lesions with those of a disease, as its priors say.

    Parameters
    ----------
    sample : Sample
        See `without_lesions`.
    anatomy : Anatomy
        Of it; see `anatomy_of`.
    label : "MS" or "NMOSD"
    """
    lesions = draw_lesions(anatomy, label, places(anatomy), rng).lesions * may_be_painted(sample)
    image, share = painted(sample, lesions, rng)
    return Sample(normalise(image, brain_of(sample)), share > 0.5, target_of(label))


def painted_cases(sample: Sample, seed: int, first: Label = "MS") -> Iterator[Sample]:
    """Yield varied cases of MS and NMOSD in turn, all in one scan, without end; see `mixing.bend` and `mixing.rescan`.

    Parameters
    ----------
    sample : Sample
        A real scan, its lesions known or drawn by a network.
    seed : int
        The same gives the same cases.
    first : "MS" or "NMOSD"
        Which comes first.
    """
    base = without_lesions(sample, np.random.default_rng((seed, 0)))
    anatomy = anatomy_of(base)
    number = 0
    while True:
        number += 1
        rng = np.random.default_rng((seed, number))
        label: Label = "MS" if (number % 2 == 1) == (first == "MS") else "NMOSD"
        yield rescan(bend(paint_class(base, anatomy, label, rng), rng), rng)
