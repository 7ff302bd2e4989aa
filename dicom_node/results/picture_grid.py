"""Grid of a picture over a slice: square pixels, enlarged where the slice is small, its first pixel where the slice's is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.types import BoolArray, FloatArray

LEAST_SIDE_PX: Final = 512
"""A slice whose longer side has fewer pixels is enlarged to this."""


@dataclass(frozen=True)
class PictureGrid:
    """Pixels of a picture over those of a slice.

    The centre of the first pixel lies where that of the slice's first pixel lies, so that both have one ImagePositionPatient.

    Parameters
    ----------
    shape_ji : tuple of int
        Of the slice.
    rows, columns : int
        Of the picture.
    spacing_mm : float
        Of the picture, in both directions.
    step_ji : tuple of float
        Pixels of the slice, along j and i, from one pixel of the picture to the next.
    """

    shape_ji: tuple[int, int]
    rows: int
    columns: int
    spacing_mm: float
    step_ji: tuple[float, float]

    @classmethod
    def over(
        cls, shape_ji: tuple[int, int], spacing_ji_mm: tuple[float, float], *, shrink: bool = False
    ) -> PictureGrid:
        """Return the grid over slices of one shape and spacing (of rows, of columns); ``shrink``: no larger than needed."""
        extent_mm = [count * spacing for count, spacing in zip(shape_ji, spacing_ji_mm, strict=True)]
        coarsest_mm = max(extent_mm) / LEAST_SIDE_PX
        spacing_mm = coarsest_mm if shrink else min(*spacing_ji_mm, coarsest_mm)
        rows, columns = (max(1, math.ceil(extent / spacing_mm - 1e-6)) for extent in extent_mm)
        step_ji = (spacing_mm / spacing_ji_mm[0], spacing_mm / spacing_ji_mm[1])
        return cls(shape_ji, rows, columns, spacing_mm, step_ji)

    @property
    def is_the_slices(self) -> bool:
        """True when the picture has the slice's own pixels."""
        return (self.rows, self.columns) == self.shape_ji and self.step_ji == (1.0, 1.0)

    def place(self, j: float, i: float) -> tuple[float, float]:
        """Return the row and column of the picture at a pixel of the slice."""
        return j / self.step_ji[0], i / self.step_ji[1]

    def grey(self, plane: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a plane, shape (j, i), on the picture's pixels, smooth."""
        return np.asarray(self._resized(Image.fromarray(plane), Image.Resampling.BICUBIC))

    def values(self, plane: FloatArray) -> FloatArray:
        """Return numbers, shape (j, i), on the picture's pixels, linear between those of the slice."""
        image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
        return np.asarray(self._resized(image, Image.Resampling.BILINEAR), dtype=np.float32)

    def mask(self, plane: BoolArray) -> BoolArray:
        """Return a mask, shape (j, i), on the picture's pixels: where it is at least half, linear between pixels."""
        if self.is_the_slices:
            return plane
        image = Image.fromarray(np.where(plane, np.uint8(254), np.uint8(0)))
        return np.asarray(self._resized(image, Image.Resampling.BILINEAR)) >= 127

    def _resized(self, image: Image.Image, filtering: Image.Resampling) -> Image.Image:
        if self.is_the_slices:
            return image
        # the picture's first and last pixels may reach over the slice's edges, where its edge pixels go on
        over = [math.ceil(step) for step in self.step_ji]
        padded = Image.fromarray(np.pad(np.asarray(image), [(n, n) for n in over], mode="edge"))
        starts = [n + 0.5 - 0.5 * step for n, step in zip(over, self.step_ji, strict=True)]
        ends = [
            start + count * step
            for start, count, step in zip(starts, (self.rows, self.columns), self.step_ji, strict=True)
        ]
        limits = (padded.height, padded.width)
        top, left = starts
        bottom, right = (min(end, limit) for end, limit in zip(ends, limits, strict=True))
        return padded.resize((self.columns, self.rows), filtering, box=(left, top, right, bottom))


def thin_outline(mask: BoolArray) -> BoolArray:
    """Return the pixels just outside a mask, one pixel thin."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return np.asarray(grown & ~mask)
