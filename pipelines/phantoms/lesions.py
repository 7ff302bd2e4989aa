"""White-matter lesions with the places, shapes and sizes of multiple sclerosis, in MNI space.

Sizes follow the consensus masks of 30 patients: median 17 mm3, 99th percentile 2218 mm3, axis ratio 2.35
(Lesjak et al., Neuroinformatics 2017, doi:10.1007/s12021-017-9348-7); what no reader could see on 3 mm slices is
left out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.phantoms.head import Head, distance_mm
from pipelines.types import FloatArray

PLACES = {"periventricular": 0.41, "deep": 0.42, "juxtacortical": 0.17}
"""Share of the lesions in each place."""
AXIS_RATIO = 2.35
SMALLEST_MM3, LARGEST_MM3 = 30.0, 3000.0
EDGE_MM = 0.7
MIDDLE_MM3 = (250.0, 900.0)
"""Volume of a lesion that nobody overlooks and that is none of the largest."""


@dataclass(frozen=True)
class LesionLoad:
    """Load of a phantom: how many lesions it has and what they add up to, about."""

    count: int = 24
    volume_ml: float = 12.0

    def __post_init__(self) -> None:
        if self.count < 0 or self.volume_ml < 0.0:
            raise ValueError("a lesion load has no negative count or volume")


NO_LESIONS = LesionLoad(0, 0.0)


@functools.lru_cache(maxsize=1)
def _seeds(head: Head) -> dict[str, npt.NDArray[np.intp]]:
    """Return the voxels where a lesion may be centred, shape (n, 3), for each place."""
    white = (head.white > 0.8) & head.brain
    from_ventricle_mm = distance_mm(head.ventricles)
    from_cortex_mm = distance_mm((head.grey > 0.6) & (from_ventricle_mm > 15.0))
    superior_mm = head.grid.affine[2, 3] + np.arange(white.shape[0]) * head.grid.affine[2, 2]
    white &= (superior_mm > -15.0)[:, None, None]
    # the template's callosum is thin: a lesion centred there would mostly be ventricle
    left_mm = head.grid.affine[0, 3] + np.arange(white.shape[2]) * head.grid.affine[0, 0]
    white &= (np.abs(left_mm) > 9.0)[None, None, :]
    regions = {
        "periventricular": white & (from_ventricle_mm > 2.0) & (from_ventricle_mm <= 7.0),
        "deep": white & (from_ventricle_mm > 10.0) & (from_cortex_mm > 6.0),
        "juxtacortical": white
        & (from_ventricle_mm > 15.0)
        & (from_cortex_mm > 1.0)
        & (from_cortex_mm <= 3.0),
    }
    return {place: np.argwhere(region) for place, region in regions.items()}


def _volumes_mm3(load: LesionLoad, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return log-normal lesion volumes that add up to the load, the largest first."""
    volumes = np.exp(rng.normal(0.0, 1.1, load.count))
    for _ in range(8):
        volumes = np.clip(volumes * load.volume_ml * 1e3 / volumes.sum(), SMALLEST_MM3, LARGEST_MM3)
    return np.sort(volumes)[::-1]


def _long_axis(place: str, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return a unit vector (k, j, i): outward from the ventricles, as Dawson's fingers, or any."""
    axis = rng.normal(size=3)
    if place == "periventricular":
        axis *= 0.25
        # right-left in the template's i; the ventricle lies towards the middle
        axis[2] += 1.0
    return np.asarray(axis / np.linalg.norm(axis))


def _add(
    amount: FloatArray, centre: npt.NDArray[np.intp], axis: npt.NDArray[np.float64], volume_mm3: float
) -> None:
    """Set the amount to 1 in an ellipsoid of revolution, falling to 0 over its soft edge."""
    short_mm = (volume_mm3 * 0.75 / np.pi / AXIS_RATIO) ** (1.0 / 3.0)
    reach = int(np.ceil(short_mm * AXIS_RATIO)) + 3
    start = np.maximum(centre - reach, 0)
    stop = np.minimum(centre + reach + 1, amount.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    offset = (
        np.stack(np.meshgrid(*(np.arange(s.start, s.stop) for s in box), indexing="ij"), axis=-1) - centre
    )
    along = offset @ axis
    across = np.sqrt(np.maximum((offset**2).sum(axis=-1) - along**2, 0.0))
    radius = np.sqrt((along / AXIS_RATIO) ** 2 + across**2)
    soft = np.clip(0.5 + (short_mm - radius) / (2.0 * EDGE_MM), 0.0, 1.0)
    amount[box] = np.maximum(amount[box], soft.astype(np.float32))


def lesion_amount(head: Head, load: LesionLoad, rng: np.random.Generator, *, not_yet: int = 0) -> FloatArray:
    """Return how much of each voxel is lesion.

    Parameters
    ----------
    head : Head
    load : LesionLoad
    rng : numpy Generator
    not_yet : int
        So many lesions of middle size, those furthest from all others, are left out: the head before it had them.

    Returns
    -------
    float32 array, shape (k, j, i) of the head
        In [0, 1]; none in fluid, little in cortex.
    """
    if load.count == 0:
        return np.zeros(head.signal.shape, dtype=np.float32)
    seeds = _seeds(head)
    placed = []
    for place in rng.choice(list(PLACES), size=load.count, p=list(PLACES.values())):
        centre = seeds[place][rng.integers(len(seeds[place]))]
        placed.append((centre, _long_axis(str(place), rng)))
    volumes_mm3 = _volumes_mm3(load, rng)
    tissue = np.clip(head.white + 0.5 * head.grey, 0.0, 1.0)
    tissue[~head.brain | head.ventricles] = 0.0
    amount = _paint(placed, volumes_mm3, tissue)
    for _ in range(2):
        # fluid and cortex cut some of it off, and lesions overlap: again, larger by as much
        left_mm3 = max(float(np.count_nonzero(amount > 0.5)), 1.0)
        volumes_mm3 *= min(2.0, load.volume_ml * 1e3 / left_mm3)
        amount = _paint(placed, volumes_mm3, tissue)
    if not_yet:
        late = _separate(placed, volumes_mm3)[:not_yet]
        kept = [rank for rank in range(load.count) if rank not in late]
        amount = _paint([placed[rank] for rank in kept], volumes_mm3[kept], tissue)
    return amount


def _separate(
    placed: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]], volumes_mm3: npt.NDArray[np.float64]
) -> list[int]:
    """Return the ranks of the lesions of middle size, the one furthest from the surface of any other first."""
    centres = np.array([centre for centre, _ in placed], dtype=np.float64)
    long_mm = AXIS_RATIO * (volumes_mm3 * 0.75 / np.pi / AXIS_RATIO) ** (1.0 / 3.0)
    apart_mm = np.linalg.norm(centres[:, None] - centres[None], axis=-1) - long_mm[None]
    np.fill_diagonal(apart_mm, np.inf)
    least, most = MIDDLE_MM3
    middle = [rank for rank, volume in enumerate(volumes_mm3) if least <= volume <= most]
    return sorted(middle, key=lambda rank: -float(apart_mm[rank].min()))


def _paint(
    placed: list[tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]],
    volumes_mm3: npt.NDArray[np.float64],
    tissue: FloatArray,
) -> FloatArray:
    """Return the amount of lesions with these centres, long axes and volumes, where there is tissue."""
    amount = np.zeros(tissue.shape, dtype=np.float32)
    for (centre, axis), volume_mm3 in zip(placed, volumes_mm3, strict=True):
        _add(amount, centre, axis, float(volume_mm3))
    return np.asarray(amount * tissue, dtype=np.float32)
