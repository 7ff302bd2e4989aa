"""A head of few voxels, and its brain as deepbet finds it: one run of that network for all tests."""

from __future__ import annotations

from pipelines.brain.mask import _extractor, brain_mask
from pipelines.phantoms.flair import AXIAL_2D, Acquisition, FlairPhantom, flair_phantom
from pipelines.types import BoolArray, FloatArray
from tests.kept import kept

COARSE = Acquisition((40, 96, 96), (4.0, 2.4, 2.4), "axial", dict(AXIAL_2D.attributes))


def coarse_head() -> FlairPhantom:
    return kept(flair_phantom, 5, COARSE)


def brain_found() -> tuple[BoolArray, FloatArray, FloatArray]:
    """Return the brain of the head, and what the network was shown and answered, in its own orientation."""
    return kept(_asked)


def _asked() -> tuple[BoolArray, FloatArray, FloatArray]:
    volume, extractor = coarse_head().volume, _extractor("cpu")
    shown = []
    run = extractor.run_model

    def asked(canonical: FloatArray) -> FloatArray:
        shown.extend([canonical.copy(), run(canonical).copy()])
        return shown[1]

    extractor.run_model = asked
    try:
        found = brain_mask(volume.array, volume.affine)
    finally:
        del extractor.run_model
    given, answer = shown
    return found, given, answer
