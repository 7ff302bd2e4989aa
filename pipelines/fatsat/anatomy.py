"""Expected place of a nerve behind its globe: from the mean of many heads, or from the other eye of the same head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

AT_MM = 10.0
"""Depth behind the globe's centre, along the frame's back, at which places are stated."""
COMPARED_MM = (10.0, 14.0, 18.0, 22.0, 26.0)
"""Depths at which a nerve is compared with the expected course, as far as it was followed."""
FITTED_MM = 20.0
"""So much of the other nerve's course, from its junction, says where this one runs."""


@dataclass(frozen=True)
class Frame:
    """The axes of a head: unit vectors, shape (3,), LPS, towards the left, the back and the top."""

    left: Floats
    back: Floats
    up: Floats


def head_frame(left_centre: Floats | None = None, right_centre: Floats | None = None) -> Frame:
    """Return the axes of the head from both globes; those of the patient where one is missing."""
    left = np.array([1.0, 0.0, 0.0])
    if left_centre is not None and right_centre is not None:
        left = (left_centre - right_centre) / np.linalg.norm(left_centre - right_centre)
    back = np.array([0.0, 1.0, 0.0]) - left * left[1]
    back = back / np.linalg.norm(back)
    return Frame(left, back, np.cross(left, back))


@dataclass(frozen=True)
class Expected:
    """A straight course behind a globe and how far nerves lie beside it.

    Parameters
    ----------
    place_mm : two floats
        Medial and upward of the globe's centre, `AT_MM` behind it.
    slope : two floats
        Medial and upward for each mm backwards.
    sd_mm : two floats
        Standard deviation of the place, medial and upward.
    sd_slope : two floats
        What that grows by for each mm behind `AT_MM`.
    """

    place_mm: tuple[float, float]
    slope: tuple[float, float]
    sd_mm: tuple[float, float]
    sd_slope: tuple[float, float]

    def line(self, centre: Floats, medial: Floats, frame: Frame) -> tuple[Floats, Floats]:
        """Return a globe's expected course: a point at its centre's depth and the way for each mm backwards, shape (3,)."""
        way = frame.back + self.slope[0] * medial + self.slope[1] * frame.up
        at = centre + self.place_mm[0] * medial + self.place_mm[1] * frame.up + AT_MM * (frame.back - way)
        return at, way

    def sd_at(self, depth_mm: float | Floats) -> Floats:
        """Return the standard deviations of the place, mm, medial and upward along the last axis."""
        further = np.maximum(0.0, np.asarray(depth_mm)[..., None] - AT_MM)
        return np.asarray(np.array(self.sd_mm) + np.array(self.sd_slope) * further)

    def apart_sd(self, course: Floats, centre: Floats, medial: Floats, frame: Frame) -> float:
        """Return how far a nerve runs beside its globe's expected course, in SD: root mean square over `COMPARED_MM`.

        Parameters
        ----------
        course : float64 array, shape (n, 3), mm, LPS
            From the junction on; infinity where it reaches none of the depths.
        centre, medial : float64 arrays, shape (3,)
            Of the nerve's own globe.
        frame : Frame
        """
        depth = (course - centre) @ frame.back
        depths = np.array([mm for mm in COMPARED_MM if depth[0] - 0.5 <= mm <= depth[-1] + 0.5])
        if len(depths) == 0:
            return float(np.inf)
        at, way = self.line(centre, medial, frame)
        nearest = np.abs(depth[:, None] - depths).argmin(axis=0)
        beside = course[nearest] - (at + depths[:, None] * way)
        in_sd = np.stack([beside @ medial, beside @ frame.up], axis=1) / self.sd_at(depths)
        return float(np.sqrt((in_sd**2).sum(axis=1).mean()))


MEAN = Expected((5.4, 1.5), (0.46, 0.08), (1.6, 3.0), (0.09, 0.25))
"""Over the 24 eyes of the label maps of heads 1 to 12 (paper 0: 4.1 mm medial at the junction, 27 degrees, which is a slope of
0.51). The height depends on how the head is held."""
OTHER_SD_MM = (1.2, 0.9)
OTHER_SD_SLOPE = (0.08, 0.03)
"""By how much the two nerves of a head differ, mirrored: over 71 phantoms of heads 1 to 12, 0.9 and 0.7 mm at the globe and 1.6
and 1.0 mm 16 mm behind it; a little more here, since gaze moves the two to the same side [ours]."""


def as_other_eye(course: Floats, centre: Floats, medial: Floats, frame: Frame) -> Expected:
    """Return where a nerve is expected by that of the head's other eye.

    Parameters
    ----------
    course : float64 array, shape (n, 3), mm, LPS
        Of the other nerve, from its junction on.
    centre, medial : float64 arrays, shape (3,)
        Of the other globe, mm, LPS, and from it towards this eye.
    frame : Frame
    """
    beside = course[np.linalg.norm(course - course[0], axis=1) <= FITTED_MM] - centre
    depth = beside @ frame.back - AT_MM
    slopes, places = np.polyfit(depth, np.stack([beside @ medial, beside @ frame.up], axis=1), 1)
    return Expected(
        (float(places[0]), float(places[1])),
        (float(slopes[0]), float(slopes[1])),
        OTHER_SD_MM,
        OTHER_SD_SLOPE,
    )
