"""A part of a picture, enlarged for its margin: a nerve is a few pixels wide on a slice of the whole head."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image

from dicom_node.results.colours import RgbArray
from pipelines.types import BoolArray

ROOM: Final = (120, 0.25)
"""Most of the rows, and most of the picture's width, that it may take."""
LEAST_ZOOM: Final = 1.3
"""A part that can't be enlarged by this much is not shown again."""
MOST_ZOOM: Final = 4.0


def enlarged_part(picture: RgbArray, part: BoolArray) -> RgbArray | None:
    """Return the box around a part of a picture, enlarged; None where the part is empty or so large that it would gain nothing.

    Parameters
    ----------
    picture : uint8 array, shape (j, i, 3)
    part : bool array, shape (j, i)
    """
    if not part.any():
        return None
    (top, bottom), (left, right) = (
        (int(at.min()), int(at.max()) + 1) for at in (np.flatnonzero(part.any(axis=axis)) for axis in (1, 0))
    )
    zoom = min(ROOM[0] / (bottom - top), ROOM[1] * part.shape[1] / (right - left), MOST_ZOOM)
    if zoom < LEAST_ZOOM:
        return None
    size = (round(zoom * (right - left)), round(zoom * (bottom - top)))
    box = Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right]))
    return np.asarray(box.resize(size, Image.Resampling.BICUBIC))
