"""Matthews' rule: MS rather than NMOSD by where the lesions of the brain lie.

The paper's criteria, read off images by neurologists: (1) a lesion adjacent to the body of a lateral ventricle and one in the
inferior temporal lobe, or (2) a subcortical U-fibre lesion, or (3) a Dawson's finger: any one of the three means MS. It gives
no measures. [ours] Every number below is our reading of it in mm, on two kinds of ground:

- places, in MNI152 space through the patient's affine registration: ventricles, cortex and temporal lobe of the template
  that nilearn ships. Ventricles grow with age and disease, so the fluid of the patient that continues the
  template's ventricles, up to `WIDENING_MM` from them, belongs to them too;
- shapes, in the patient's own mm: the ellipsoid that has the second moments of the lesion's voxels.

A lesion counts for any of them from 10 mm3, four voxels and a mean probability of 0.7 on: place and shape of a speck say
nothing.

What this cannot see: S shapes and fingers within confluent lesions (one component has one shape), and thin lesions on
thick slices. So a rule that is not met says little; each criterion names its lesions for a reader to look at.
In the two MS patients with images at hand the first two criteria are met; no scans of NMOSD were at hand, so how often
these readings are met without MS is not known.

References
----------
Matthews et al., Distinction of seropositive NMO spectrum disorder and MS brain lesion distribution, Neurology
2013;80:1330-1337.
Template: Fonov et al., NeuroImage 2011 (ICBM 152 nonlinear 2009a symmetric).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.brain.grid import Grid, resample
from pipelines.brain.mni_space import Alignment, coarse_grid, template
from pipelines.flair.lesions import LabelArray
from pipelines.flair.preprocess import Cube
from pipelines.types import BoolArray, Criterion, FloatArray, Rule

NAME = "Matthews' rule"
SOURCE = "Neurology 2013;80:1330"
VENTRICLE_AND_TEMPORAL = (
    "a lesion adjacent to the body of a lateral ventricle and one in the inferior temporal lobe"
)
U_FIBRE = "a U-fibre lesion"
DAWSON = "a Dawson's finger"

ADJACENT_MM = 3.0
"""A lesion is adjacent to what any of its points is this near to: two voxels of the cube."""
BODY_SP_MM = ((14.0, 40.0), (-5.0, 40.0))
"""Body of the lateral ventricle, S and P in MNI152: above the thalamus, from the foramen of Monro to the trigone."""
TEMPORAL_SPL_MM = ((-45.0, -10.0), (-10.0, 36.0), (24.0, 75.0))
"""Inferior temporal lobe, S, P and distance from the midline in MNI152: below the insula, behind the orbit's roof, before the
cerebellum, lateral of brainstem and hippocampus."""
TEMPORAL_SHARE = 0.5
"""Of a lesion's volume that must lie there."""
JUXTACORTICAL_MM = 4.0
"""U fibres: within this of the cerebral cortex (of an affinely fitted template, hence more than they are thick) ..."""
ALONG_CORTEX_SHARE = 0.75
"""... with this share of the lesion,"""
U_LENGTH_MM = 12.0
"""at least this long,"""
U_THICKNESS_MM = 6.0
"""thinner than this,"""
U_ELONGATION = 2.0
"""longer than wide by this factor,"""
U_FULLNESS = 0.6
"""and curved: it fills no more of its ellipsoid. A straight rod fills 0.93, a half ring three times as wide as thick 0.55."""
AWAY_FROM_VENTRICLE_MM = 5.0
"""A U-fibre lesion keeps further than this from the lateral ventricles."""
FINGER_ELONGATION = 1.5
"""Dawson's finger: an ovoid longer than wide by this factor,"""
FINGER_LENGTH_MM = (6.0, 30.0)
"""of such a length,"""
FINGER_FULLNESS = 0.6
"""that fills this much of its ellipsoid (no bent or branching thing),"""
FINGER_ANGLE_DEGREES = 35.0
"""and whose long axis is this near to the normal of the ventricle's wall, as the medullary veins run. It spans two slices, or
is longer than wide within its one slice: how far it reaches through that is not known."""
LEAST_VOLUME_MM3 = 10.0
LEAST_VOXELS = 4
LEAST_PROBABILITY = 0.7
"""Of a lesion that a criterion may rest on, the mean over its voxels."""
WIDENING_MM = 10.0
FLUID = -2.5
"""Darker than this on the scale of `pipelines.flair.intensity` (half of the brain's mode) is fluid on FLAIR."""
POINT_SPACING_MM = 1.2
"""Voxels are divided until their parts are no wider than this, so that thick slices have an extent."""

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """Distances in MNI152 space on the coarse grid of the template (2 mm), mm, to the surface of what they are named for."""

    ventricle_mm: FloatArray
    body_mm: FloatArray
    cortex_mm: FloatArray
    away_from_ventricle: npt.NDArray[np.float32]
    """Direction of growing distance, shape (3, k, j, i), LPS."""

    def voxels_at(self, mni: Points) -> tuple[npt.NDArray[np.intp], ...]:
        """Return the indices (k, j, i) of the voxels that hold points of MNI space, each once."""
        inverse = np.linalg.inv(coarse_grid().affine)
        at_kji = np.rint((mni @ inverse[:3, :3].T + inverse[:3, 3]).T[::-1]).astype(np.intp)
        inside = (at_kji >= 0) & (at_kji < np.array(self.ventricle_mm.shape)[:, None])
        return tuple(np.unique(at_kji[:, inside.all(axis=0)], axis=1))


@dataclass(frozen=True)
class Shape:
    """The ellipsoid with the second moments of a lesion.

    Parameters
    ----------
    axes_mm : three floats
        Full lengths, the longest first.
    direction : float64 array, shape (3,)
        Of the longest, unit, patient LPS.
    fullness : float
        The lesion's volume over the ellipsoid's; 1 for an ellipsoid.
    """

    axes_mm: tuple[float, float, float]
    direction: Points
    fullness: float


def matthews_rule(
    labels: LabelArray,
    probability: FloatArray,
    grid: Grid,
    alignment: Alignment,
    fluid: BoolArray | None = None,
) -> Rule:
    """Return which criteria are met, and by which lesions.

    Parameters
    ----------
    labels : int32 array, shape (k, j, i)
        IDs of the lesions on the native grid, 0 elsewhere.
    probability : float32 array, shape (k, j, i)
        In [0, 1], that they were drawn from.
    grid : Grid
        Of the labels.
    alignment : Alignment
        Of the patient's brain to MNI152.
    fluid : bool array, shape of `coarse_grid`, optional
        The patient's fluid in MNI152 space (`fluid_in_mni`); without it the ventricles are the template's.
    """
    places = places_with(fluid)
    body, temporal, u_fibre, finger = [], [], [], []
    for lesion_id, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        mask = labels[box] == lesion_id
        points, volume_mm3 = lesion_points(mask, grid.crop(box))
        if not _is_more_than_a_speck(mask, volume_mm3, probability[box]):
            continue
        mni = to_mni(points, alignment)
        shape = shape_of(points, volume_mm3, grid)
        if values_at(places.body_mm, mni).min() <= ADJACENT_MM:
            body.append(lesion_id)
        if _in_inferior_temporal(mni).mean() >= TEMPORAL_SHARE:
            temporal.append(lesion_id)
        if _is_u_fibre(shape, mni, places):
            u_fibre.append(lesion_id)
        own = shape if mask.shape[0] > 1 else shape_in_plane(mask, grid)
        if _is_finger(own, mni, places, alignment):
            finger.append(lesion_id)
    # one lesion that reaches from the one place to the other is not two lesions
    both = sorted({*body, *temporal}) if body and temporal and len({*body, *temporal}) > 1 else []
    return Rule(
        NAME,
        SOURCE,
        "MS",
        (
            Criterion(VENTRICLE_AND_TEMPORAL, tuple(both)),
            Criterion(U_FIBRE, tuple(u_fibre)),
            Criterion(DAWSON, tuple(finger)),
        ),
    )


def fluid_in_mni(cube: Cube, alignment: Alignment) -> BoolArray:
    """Return the fluid of a patient's brain on the coarse grid of the template."""
    dark = cube.mask & (cube.values < FLUID)
    return resample(dark, cube.grid, coarse_grid(), transform=alignment.mni_to_patient) > 0.5


def lesion_points(mask: BoolArray, grid: Grid) -> tuple[Points, float]:
    """Return points that fill a lesion evenly, patient LPS, mm, shape (n, 3), and its volume in mm3."""
    parts = [max(1, int(np.ceil(spacing / POINT_SPACING_MM))) for spacing in grid.spacing_mm]
    steps = [(np.arange(n) + 0.5) / n - 0.5 for n in parts]
    offsets = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    voxels = np.argwhere(mask)
    points = grid.positions_lps((voxels[:, None, :] + offsets[None]).reshape(-1, 3))
    return points, len(voxels) * grid.voxel_volume_mm3


def shape_of(points: Points, volume_mm3: float, grid: Grid) -> Shape:
    """Return the ellipsoid of a lesion's points; each point stands for a part of a voxel and adds its own extent."""
    spacing_ijk = np.array(grid.spacing_mm[::-1])
    part = spacing_ijk / np.maximum(1.0, np.ceil(spacing_ijk / POINT_SPACING_MM))
    turn = grid.affine[:3, :3] / spacing_ijk
    centred = points - points.mean(axis=0)
    moments = centred.T @ centred / len(points) + turn @ np.diag(part**2 / 12.0) @ turn.T
    values, vectors = np.linalg.eigh(moments)
    # the variance along an axis of a solid ellipsoid is the square of its half axis over 5
    long, middle, short = (float(2.0 * np.sqrt(5.0 * value)) for value in values[::-1])
    return Shape((long, middle, short), vectors[:, 2], volume_mm3 / (np.pi / 6.0 * long * middle * short))


def shape_in_plane(mask: BoolArray, grid: Grid) -> Shape:
    """Return the ellipse of a lesion of one slice; the slice's thickness is never its longest axis.

    Parameters
    ----------
    mask : bool array, shape (1, j, i)
    grid : Grid
        Of the spacing and the axes of the mask's voxels.
    """
    thickness_mm, *pixel_mm = grid.spacing_mm
    across = np.array(pixel_mm)  # along j and i
    at = np.argwhere(mask[0]) * across
    centred = at - at.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(at) + np.diag(across**2 / 12.0))
    # the variance along an axis of a solid ellipse is the square of its half axis over 4
    middle, long = (float(4.0 * np.sqrt(value)) for value in values)
    j, i = vectors[:, 1]
    unit = grid.affine[:3, :3] / np.array(grid.spacing_mm[::-1])
    direction = j * unit[:, 1] + i * unit[:, 0]
    area_mm2 = len(at) * float(np.prod(across))
    return Shape(
        (long, middle, min(thickness_mm, middle)), direction, area_mm2 / (np.pi / 4.0 * long * middle)
    )


def _is_more_than_a_speck(mask: BoolArray, volume_mm3: float, probability: FloatArray) -> bool:
    return bool(
        volume_mm3 >= LEAST_VOLUME_MM3
        and np.count_nonzero(mask) >= LEAST_VOXELS
        and probability[mask].mean() >= LEAST_PROBABILITY
    )


def _is_u_fibre(shape: Shape, mni: Points, places: Places) -> bool:
    long, middle, short = shape.axes_mm
    return bool(
        long >= U_LENGTH_MM
        and short <= U_THICKNESS_MM
        and long >= U_ELONGATION * middle
        and shape.fullness <= U_FULLNESS
        and (values_at(places.cortex_mm, mni) <= JUXTACORTICAL_MM).mean() >= ALONG_CORTEX_SHARE
        and values_at(places.ventricle_mm, mni).min() > AWAY_FROM_VENTRICLE_MM
    )


def angle_to_ventricle(shape: Shape, mni: Points, places: Places, alignment: Alignment) -> float:
    """Return the angle between a lesion's long axis and the normal of the nearest ventricle's wall, degrees, 0 to 90.

    90 where no direction leads away from the ventricles.

    Parameters
    ----------
    shape : Shape
    mni : float64 array, shape (n, 3)
        Points of the lesion.
    """
    normal_mni = np.array([values_at(part, mni).mean() for part in places.away_from_ventricle])
    normal = normal_in_patient(normal_mni, alignment)
    length = float(np.linalg.norm(normal))
    if length == 0.0:
        return 90.0
    return float(np.degrees(np.arccos(min(1.0, abs(float(normal @ shape.direction)) / length))))


def _is_finger(shape: Shape, mni: Points, places: Places, alignment: Alignment) -> bool:
    long, middle, _ = shape.axes_mm
    if not FINGER_LENGTH_MM[0] <= long <= FINGER_LENGTH_MM[1]:
        return False
    if long < FINGER_ELONGATION * middle or shape.fullness < FINGER_FULLNESS:
        return False
    if values_at(places.ventricle_mm, mni).min() > ADJACENT_MM:
        return False
    return angle_to_ventricle(shape, mni, places, alignment) <= FINGER_ANGLE_DEGREES


def normal_in_patient(normal_mni: Points, alignment: Alignment) -> Points:
    """Return the normal of a surface, given in MNI space, in patient LPS, shape (3,), not of unit length.

    The inverse transpose: a stretch or shear turns a normal otherwise than it turns the surface's points.
    """
    return np.asarray(np.linalg.inv(alignment.mni_to_patient[:3, :3]).T @ normal_mni)


def to_mni(points: Points, alignment: Alignment) -> Points:
    """Return points, patient LPS, mm, shape (n, 3), in MNI152."""
    inverse = np.linalg.inv(alignment.mni_to_patient)
    return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])


def _in_inferior_temporal(mni: Points) -> BoolArray:
    left, posterior, superior = mni.T
    inside = np.ones(len(mni), dtype=np.bool_)
    for values, (low, high) in zip((superior, posterior, np.abs(left)), TEMPORAL_SPL_MM, strict=True):
        inside &= (values >= low) & (values <= high)
    return inside


def values_at(array: FloatArray, mni: Points) -> FloatArray:
    """Return an array of the coarse grid at points of MNI space, linearly; the nearest value beyond its border."""
    inverse = np.linalg.inv(coarse_grid().affine)
    at_kji = (mni @ inverse[:3, :3].T + inverse[:3, 3]).T[::-1]
    return np.asarray(ndimage.map_coordinates(array, at_kji, order=1, mode="nearest"), dtype=np.float32)


def _coordinates() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return MNI152 L, P and S of the coarse grid's voxels, mm, broadcastable to (k, j, i)."""
    grid = coarse_grid()
    k, j, i = grid.shape_kji
    left, posterior, superior = (
        (grid.affine[axis, 3] + grid.affine[axis, axis] * np.arange(n)).astype(np.float32)
        for axis, n in enumerate((i, j, k))
    )
    return left[None, None, :], posterior[None, :, None], superior[:, None, None]


@functools.lru_cache(maxsize=1)
def _template_places() -> tuple[BoolArray, FloatArray]:
    """Return the template's lateral ventricles and the distance to its cerebral cortex, on the coarse grid.

    Ventricle: less than 0.6 of tissue in the brain, within the ellipsoid that holds the ventricles (half axes 34, 52 and 24 mm
    around P 14, S 10), above S -2 and 4 mm off the midline (third ventricle, cisterns); the largest component on each side.
    Cortex: more than 0.4 of grey matter, without the deep nuclei and the cerebellum.
    """
    reference = template()
    grey, white = reference.grey[::2, ::2, ::2], reference.white[::2, ::2, ::2]
    brain = reference.brain[::2, ::2, ::2]
    left, posterior, superior = _coordinates()
    inside = (left / 34) ** 2 + ((posterior - 14) / 52) ** 2 + ((superior - 10) / 24) ** 2 < 1
    fluid = brain & (grey + white < 0.6) & inside & (np.abs(left) >= 4) & (superior >= -2)
    ventricle = np.zeros(fluid.shape, dtype=np.bool_)
    for side in (1, -1):
        parts, count = ndimage.label(fluid & (left * side > 0))
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        ventricle |= parts == 1 + int(np.argmax(sizes))
    deep = (np.abs(left) < 33) & (posterior > -22) & (posterior < 36) & (superior > -12) & (superior < 18)
    cerebellum = (superior < -18) & (posterior > 36)
    cortex = (grey > 0.4) & (grey > white) & ~deep & ~cerebellum & ~_grown(ventricle, 3)
    return ventricle, _surface_mm(cortex)


def _grown(mask: BoolArray, steps: int) -> BoolArray:
    return np.asarray(ndimage.binary_dilation(mask, iterations=steps))


def _surface_mm(mask: BoolArray) -> FloatArray:
    """Return the distance to the surface of a mask, mm, 0 inside: half a voxel less than that to its voxels' centres."""
    spacing = coarse_grid().spacing_mm
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    distance = ndimage.distance_transform_edt(~mask, sampling=spacing)
    return np.asarray(np.maximum(distance - spacing[0] / 2, 0.0), dtype=np.float32)


def _places_of(ventricle: BoolArray) -> Places:
    _, posterior, superior = _coordinates()
    (low_s, high_s), (low_p, high_p) = BODY_SP_MM
    body = (
        ventricle & (superior >= low_s) & (superior <= high_s) & (posterior >= low_p) & (posterior <= high_p)
    )
    distance = _surface_mm(ventricle)
    smooth = ndimage.gaussian_filter(distance, 1.0)
    in_kji: Iterable[FloatArray] = np.gradient(smooth)
    gradient = np.stack(list(in_kji)[::-1])
    turn = np.sign(np.diag(coarse_grid().affine)[:3]).astype(np.float32)
    return Places(distance, _surface_mm(body), _template_places()[1], gradient * turn[:, None, None, None])


@functools.lru_cache(maxsize=1)
def _places() -> Places:
    return _places_of(_template_places()[0])


def places_with(fluid: BoolArray | None) -> Places:
    """Return the places with ventricles as wide as the patient's; those of the template where its fluid is not known.

    Parameters
    ----------
    fluid : bool array, shape of `coarse_grid`
        See `fluid_in_mni`.
    """
    if fluid is None:
        return _places()
    ventricle = _template_places()[0]
    reachable = fluid & (_places().ventricle_mm <= WIDENING_MM)
    own = ndimage.binary_propagation(ventricle & fluid, mask=reachable)
    return _places_of(ventricle | own)
