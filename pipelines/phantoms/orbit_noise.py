"""Shading and noise of an orbital series, by its scanner."""

from __future__ import annotations

import numpy as np

from pipelines.phantoms.orbit_anatomy import spline_weights
from pipelines.phantoms.orbit_scan import OrbitScan, Scanner, point_weights
from pipelines.types import FloatArray


def acquired(array: FloatArray, scan: OrbitScan, scanner: Scanner, rng: np.random.Generator) -> FloatArray:
    """Return a series with shading and Rician noise, as whole numbers that a scanner stores.

    Parameters
    ----------
    array : float32 array, shape (k, j, i)
        Signal, vitreous 1.
    scan : OrbitScan
    scanner : Scanner
    rng : numpy Generator

    Returns
    -------
    float32 array, shape (k, j, i)
    """
    slices, rows, columns = array.shape
    lines = [np.linspace(0.0, 1.0, n) for n in array.shape]
    weights = [spline_weights(line, n).astype(np.float32) for line, n in zip(lines, (4, 5, 5), strict=True)]
    control = rng.normal(size=(4, 5, 5)).astype(np.float32) * np.float32(2.0 * scanner.shading[0])
    shading = np.tensordot(weights[0], control, axes=(1, 0))
    shading = np.einsum("kab,ja->kjb", shading, weights[1]) @ weights[2].T
    back = scan.spacing_mm[0] * np.arange(slices)
    fall = np.exp(-scanner.shading[1] * (back - back.mean()) / 50.0)
    if scan.order == "posterior-first":
        fall = fall[::-1]
    array = array * np.exp(shading) * fall[:, None, None].astype(np.float32)
    sd = np.float32(1.0 / rng.uniform(*scanner.snr))
    noise = rng.standard_normal((2, slices, rows, columns), dtype=np.float32)
    if scanner.noise_grain_mm > 0.0:
        for axis, spacing in ((2, scan.spacing_mm[1]), (3, scan.spacing_mm[2])):
            at = spacing * np.arange(noise.shape[axis])
            blur = point_weights(at, at, max(scanner.noise_grain_mm, 1.01 * spacing), ringing=True)
            blur /= np.sqrt((blur**2).sum(axis=1, keepdims=True))
            noise = noise @ blur.T if axis == 3 else np.matmul(blur, noise)
    middle = np.outer(*(np.exp(-0.5 * ((line - 0.5) / 0.22) ** 2) for line in lines[1:]))
    # the SNR is that of the middle, where the noise is strongest
    most = (1.0 + scanner.noise_centre * middle) / (1.0 + scanner.noise_centre)
    noise *= sd * most.astype(np.float32)
    noisy = np.sqrt((array + noise[0]) ** 2 + noise[1] ** 2)
    return np.asarray(np.rint(noisy * np.float32(rng.uniform(*scanner.vitreous))), dtype=np.float32)
