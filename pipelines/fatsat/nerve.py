"""The optic nerve behind a globe: a dark disc in a bright ring, followed from slice to slice by dynamic programming.

Each slice of the series gets, around where anatomy expects the nerve, a map of how much it looks like a nerve cut across;
the path with the best sum of looks, steps and places is the nerve. Where its front end meets the globe is the junction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.fatsat.anatomy import AT_MM, MEAN, Expected, Frame
from pipelines.fatsat.globes import Globe
from pipelines.fatsat.nerve_evidence import OFFSETS, standing_out
from pipelines.fatsat.nerve_look import PIXEL_MM, look_of
from pipelines.types import FloatArray, Volume

Floats = npt.NDArray[np.float64]

SCLERA_MM = 0.8
"""From the wall of the vitreous to the outside of the globe."""
NODE_MM = 1.0
"""Distance between the places that the path may take."""
HALF_MM = 15.0
"""Half of a map's width."""
REACH_MM = 36.0
"""How far behind the globe's centre plus its radius the nerve is looked for; the canal begins at 25 to 30 mm."""
STEP_SD = (0.28, 0.35)
"""SD of the nerve's direction between two slices, medial and upward, as a slope."""
LOOK_WEIGHT = 9.0
"""How much a perfect look weighs against one squared SD of place or step."""
LOOK_MIN = 0.2
"""The nerve ends where two slices in a row look less like one."""
FRONT_MM = 16.0
"""So far behind the globe the looks make the score."""
ORBIT_MM = 26.0
"""So far where the other nerve of the head says where to look: fat that is not suppressed hides a nerve behind the globe more
often than further back."""
CLEAR = 10.0
MOST = 0.4
"""Standard errors by which the mean of the slices stands out, for a score of 1, and the most that this gives: it brings back
what is faint, and does not make a faint nerve as good as a plain one."""
PLAIN = 2.8
"""So many show that it is there in those slices, whatever each of them looks like: `pipelines.fatsat.sides.NERVE_MIN`."""
COURSE_STEP_MM = 0.5
BEND_SD = 0.05
"""SD of the course's second derivative, 1/mm, over some 6 mm."""
_PATCH: Floats = np.linspace(-6.0, 6.0, round(12.0 / PIXEL_MM) + 1)


@dataclass(frozen=True)
class Nerve:
    """A nerve that was followed.

    Parameters
    ----------
    course : float64 array, shape (n, 3), mm, LPS
        From the junction, on the outside of the globe, backwards; every 0.5 mm.
    score : float
        In [0, 1]: how much the first 16 mm behind the globe look like a nerve, slice by slice and in the mean of the slices, or
        how surely they stand out from what lies around them, where that is more.
    length_mm : float
        How far behind the globe it was followed; 0: not at all.
    reach_mm : float
        How far behind the globe the series shows where it should be.
    """

    course: Floats
    score: float
    length_mm: float
    reach_mm: float


@dataclass(frozen=True)
class _Planes:
    """The slices that cut the expected nerve, front to back.

    ``index`` (slice number along k), ``depth_mm`` (along the frame's back from the globe's centre) and ``expected``
    (where the expected course crosses the slice, mm, LPS) have one entry a slice; ``across`` holds two unit vectors in the
    plane, shape (2, 3), towards medial and up.
    """

    index: npt.NDArray[np.int64]
    depth_mm: Floats
    expected: Floats
    across: Floats
    origin: Floats
    slope: Floats
    anatomy: Expected

    def expected_at(self, depth_mm: Floats) -> Floats:
        """Return the expected course, shape (n, 3), at depths, shape (n,)."""
        return np.asarray(self.origin + depth_mm[:, None] * self.slope)


def _planes(
    volume: Volume, globe: Globe, medial: Floats, frame: Frame, given: Floats | None, anatomy: Expected
) -> _Planes:
    """Return where the series' slices cut the expected course behind the globe, or behind a given junction."""
    origin, slope = anatomy.line(globe.centre, medial, frame)
    if given is not None:
        origin = given - float((given - globe.centre) @ frame.back) * slope
    normal = np.cross(volume.affine[:3, 0], volume.affine[:3, 1])
    normal = normal / np.linalg.norm(normal)
    k = np.arange(len(volume.array))
    on_plane = volume.position_lps(np.stack([k, 0 * k, 0 * k], axis=1))
    depth = (on_plane - origin) @ normal / (slope @ normal)
    order = np.argsort(depth)
    k, depth = k[order], depth[order]
    outside = globe.radius_mm + SCLERA_MM
    expected = origin + depth[:, None] * slope
    behind = (np.linalg.norm(expected - globe.centre, axis=1) > outside + 0.5) & (depth > 0)
    if given is not None:
        behind = depth > float((given - globe.centre) @ frame.back) + 0.5
    behind &= depth < outside + REACH_MM
    to_medial = medial - normal * (normal @ medial)
    to_medial = to_medial / np.linalg.norm(to_medial)
    to_top = frame.up - normal * (normal @ frame.up)
    to_top = to_top - to_medial * (to_medial @ to_top)
    to_top = to_top / np.linalg.norm(to_top)
    across = np.stack([to_medial, to_top])
    return _Planes(k[behind], depth[behind], expected[behind], across, origin, slope, anatomy)


_OFFSETS: Floats = np.linspace(-HALF_MM, HALF_MM, round(2.0 * HALF_MM / PIXEL_MM) + 1)


def _images(
    volume: Volume, globe: Globe, planes: _Planes, middles: Floats, offsets: Floats
) -> list[FloatArray]:
    """Return the slices around places on them, shape (n, n) each, signal over the vitreous."""
    inverse = np.linalg.inv(volume.affine)
    offset = offsets[None, :, None] * planes.across[0] + offsets[:, None, None] * planes.across[1]
    images = []
    for k, middle in zip(planes.index, middles, strict=True):
        ijk = (middle + offset) @ inverse[:3, :3].T + inverse[:3, 3]
        images.append(
            ndimage.map_coordinates(
                volume.array[k], [ijk[..., 1], ijk[..., 0]], order=1, mode="constant", cval=0.0
            )
            / np.float32(globe.level)
        )
    return images


def looks(volume: Volume, globe: Globe, planes: _Planes) -> FloatArray:
    """Return `look_of` each slice around the expected course, float32, shape (planes, up, medial); 0 on the globe."""
    offset = _OFFSETS[None, :, None] * planes.across[0] + _OFFSETS[:, None, None] * planes.across[1]
    reach = globe.radius_mm + SCLERA_MM + 0.15 * volume.spacing_mm[0]
    maps = []
    for image, expected in zip(
        _images(volume, globe, planes, planes.expected, _OFFSETS), planes.expected, strict=True
    ):
        outside = np.linalg.norm(expected + offset - globe.centre, axis=-1) >= reach
        maps.append(look_of(image) * outside)
    return np.asarray(maps, dtype=np.float32)


def _mean_look(
    volume: Volume, globe: Globe, planes: _Planes, places: Floats, chosen: npt.NDArray[np.bool_]
) -> float:
    """Return the look of the mean of some slices, laid upon each other at the path's places.

    A nerve stays what it is from slice to slice, noise and what lies around it do not.
    """
    middles = np.asarray(planes.expected + places @ planes.across, dtype=np.float64)
    images = _images(volume, globe, planes, middles, _PATCH)
    mean = np.mean([image for image, use in zip(images, chosen, strict=True) if use], axis=0)
    centre = len(_PATCH) // 2
    return float(look_of(mean)[centre - 1 : centre + 2, centre - 1 : centre + 2].max())


def _standing_out(
    volume: Volume, globe: Globe, planes: _Planes, course: Floats, chosen: npt.NDArray[np.bool_]
) -> float:
    """Return `standing_out` of some slices along a course, shape (n, 3)."""
    normal = np.cross(planes.across[0], planes.across[1])
    depth = (course - planes.origin) @ normal / (planes.slope @ normal)
    middles = np.stack([np.interp(planes.depth_mm, depth, course[:, axis]) for axis in range(3)], axis=1)
    images = _images(volume, globe, planes, middles, OFFSETS)
    return standing_out(np.asarray(images)[chosen])


def _place_weight(depth_mm: float, planes: _Planes) -> float:
    """Return how much a place's squared distance in SD costs: behind the globe in full, further back less and less.

    The places of one nerve are not independent of each other: each in full would count the anatomy once a slice.
    """
    return float(0.15 + 0.35 * np.exp(-(depth_mm - planes.depth_mm[0]) / 4.0))


def _best_path(maps: FloatArray, planes: _Planes) -> npt.NDArray[np.int64]:
    """Return the path's pixel (row, column) in each map, shape (planes, 2)."""
    stride = round(NODE_MM / PIXEL_MM)
    at = np.arange(stride // 2 if len(_OFFSETS) % stride == 0 else 0, len(_OFFSETS), stride)
    # a node stands for the best pixel around it
    peaks = ndimage.maximum_filter(maps, size=(1, stride, stride))
    up, medial = np.meshgrid(_OFFSETS[at], _OFFSETS[at], indexing="ij")
    places = np.stack([medial.ravel(), up.ravel()], axis=1)
    gap_mm = float(np.diff(planes.depth_mm).mean()) if len(planes.depth_mm) > 1 else 3.0
    spread = np.array(STEP_SD) * gap_mm + 0.4
    apart = (places[:, None, :] - places[None, :, :]) / spread
    step_cost = (0.5 * (apart**2).sum(axis=-1)).astype(np.float32)
    total = np.zeros(len(places), dtype=np.float32)
    back = np.zeros((len(maps), len(places)), dtype=np.int64)
    for number, depth in enumerate(planes.depth_mm):
        if number:
            ways = total[:, None] - step_cost
            back[number] = ways.argmax(axis=0)
            total = ways.max(axis=0)
        sd = planes.anatomy.sd_at(depth)
        place_cost = _place_weight(depth, planes) * ((places / sd) ** 2).sum(axis=1)
        total = total + LOOK_WEIGHT * peaks[number][np.ix_(at, at)].ravel() - place_cost
    node = int(total.argmax())
    nodes = [node]
    for number in range(len(maps) - 1, 0, -1):
        node = int(back[number, node])
        nodes.append(node)
    rows, columns = np.divmod(np.array(nodes[::-1]), len(at))
    return np.stack([at[rows], at[columns]], axis=1)


def _refined(maps: FloatArray, path: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return the path to a part of a pixel, shape (planes, 2), mm towards medial and up, and its looks, shape (planes,)."""
    reach = round(1.5 / PIXEL_MM)
    places, found = np.zeros((len(maps), 2)), np.zeros(len(maps))
    for number, (row, column) in enumerate(path):
        rows = np.clip(np.arange(row - reach, row + reach + 1), 0, len(_OFFSETS) - 1)
        columns = np.clip(np.arange(column - reach, column + reach + 1), 0, len(_OFFSETS) - 1)
        part = maps[number][np.ix_(rows, columns)]
        found[number] = float(part.max())
        weight = np.maximum(part - 0.6 * part.max(), 0.0) + 1e-6
        weight = weight / weight.sum()
        places[number] = (weight.sum(axis=0) @ _OFFSETS[columns], weight.sum(axis=1) @ _OFFSETS[rows])
    return places, found


def _smoothed(planes: _Planes, places: Floats, found: Floats, depth: Floats, *, anchored: bool) -> Floats:
    """Return a smooth course through the path's places, shape (n, 2), at even depths; it goes on straight at its ends.

    Penalised least squares: a place counts by its look, a bend costs, and anatomy says little where nothing is seen. An
    anchored course starts on the expected one.
    """
    step = depth[1] - depth[0]
    at = (planes.depth_mm - depth[0]) / step
    inside = (at >= 0) & (at <= len(depth) - 1)
    low = np.minimum(at[inside].astype(int), len(depth) - 2)
    share = at[inside] - low
    design = np.zeros((int(inside.sum()), len(depth)))
    rows = np.arange(len(design))
    design[rows, low], design[rows, low + 1] = 1.0 - share, share
    weight = np.clip(found[inside], 0.02, 1.0) ** 2 / 0.5**2
    bend = np.diff(np.eye(len(depth)), 2, axis=0) / step**2
    left = design.T @ (weight[:, None] * design) + step / 6.0 / BEND_SD**2 * (bend.T @ bend)
    if anchored:
        left[0, 0] += 1e4
    course = np.empty((len(depth), 2))
    for axis in range(2):
        anatomy = np.diag(step / 10.0 / planes.anatomy.sd_at(depth)[:, axis] ** 2)
        course[:, axis] = np.linalg.solve(left + anatomy, design.T @ (weight * places[inside, axis]))
    return course


def _followed_mm(planes: _Planes, found: Floats) -> float:
    """Return the depth of the last slice before two in a row that do not look like a nerve; 0 where none does."""
    last = 0.0
    for number, look in enumerate(found):
        if look >= LOOK_MIN:
            last = float(planes.depth_mm[number])
        elif number and found[number - 1] < LOOK_MIN and last > 0.0:
            break
    return last


def _course(globe: Globe, planes: _Planes, places: Floats, found: Floats, given: Floats | None) -> Floats:
    """Return the smooth course from the junction to the end of the series, shape (n, 3), not yet even."""
    outside = globe.radius_mm + SCLERA_MM
    end = float(planes.depth_mm[-1])
    if given is not None:
        back = planes.slope / (planes.slope @ planes.slope)
        start = float((given - planes.origin) @ back)
        depth = start + np.arange(0.0, max(end - start, 1.0), 0.5)
        offset = _smoothed(planes, places, found, depth, anchored=True)
        return np.asarray(planes.expected_at(depth) + offset @ planes.across)
    depth = np.arange(0.0, max(end, outside + 2.0), 0.5)
    offset = _smoothed(planes, places, found, depth, anchored=False)
    course = planes.expected_at(depth) + offset @ planes.across
    away = np.linalg.norm(course - globe.centre, axis=1) - outside
    inner = np.flatnonzero(away[:-1] < 0.0)
    if len(inner) == 0:
        # the course passes the globe by: its nearest point, on the wall
        nearest = int(np.abs(away).argmin())
        wall = globe.centre + (course[nearest] - globe.centre) * outside / (away[nearest] + outside)
        return np.concatenate([wall[None], course[nearest + 1 :]])
    last = int(inner[-1])
    share = -away[last] / (away[last + 1] - away[last])
    junction = course[last] + share * (course[last + 1] - course[last])
    return np.concatenate([junction[None], course[last + 1 :]])


def follow(
    volume: Volume,
    globe: Globe,
    medial: Floats,
    frame: Frame,
    given: Floats | None = None,
    anatomy: Expected = MEAN,
    front_mm: float = FRONT_MM,
) -> Nerve:
    """Follow the nerve behind a globe.

    Parameters
    ----------
    volume : Volume
        The series itself.
    globe : Globe
        Found, or expected in front of a given junction.
    medial : float64 array, shape (3,)
        Unit vector, LPS, from this eye towards the other.
    frame : Frame
    given : float64 array, shape (3,), mm, LPS, optional
        A junction to start from; else it is where the course meets the globe's outside.
    anatomy : Expected
        Where it is looked for.
    front_mm : float
        How far behind the globe the looks make the score.
    """
    planes = _planes(volume, globe, medial, frame, given, anatomy)
    start = globe.centre + anatomy.place_mm[0] * medial + AT_MM * frame.back if given is None else given
    if len(planes.index) < 2:
        return Nerve(start[None], 0.0, 0.0, 0.0)
    maps = looks(volume, globe, planes)
    places, found = _refined(maps, _best_path(maps, planes))
    rough = _course(globe, planes, places, found, given)
    front = float((rough[0] - globe.centre) @ frame.back)
    behind = planes.depth_mm - front
    scored = (behind > 0.75 * volume.spacing_mm[0]) & (behind < front_mm)
    score = 0.0
    length = max(0.0, _followed_mm(planes, found) - front)
    if scored.any():
        score = (float(found[scored].mean()) + _mean_look(volume, globe, planes, places, scored)) / 2.0
        out = _standing_out(volume, globe, planes, rough, scored)
        score = max(score, min(MOST, out / CLEAR))
        if out >= PLAIN:
            length = max(length, float(behind[scored][-1]))
    reach = float(behind[-1]) + volume.spacing_mm[0] / 2
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(rough, axis=0), axis=1))])
    kept = (rough - rough[0]) @ frame.back <= length + 0.25
    end = float(along[kept].max())
    even = np.arange(0.0, end + 1e-6, COURSE_STEP_MM)
    course = np.stack([np.interp(even, along, rough[:, axis]) for axis in range(3)], axis=1)
    return Nerve(course, score, length, reach)
