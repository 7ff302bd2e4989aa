"""Lesions of the current image that were there before and of which the rule reports no change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipelines.comparison import Examined, LesionChange, LesionMatch, UnchangedLesion, heirs_of
from pipelines.types import Lesion, Point


def unchanged_of(
    current: Examined, prior: Examined, changes: Sequence[LesionChange], matches: Sequence[LesionMatch]
) -> tuple[UnchangedLesion, ...]:
    """Return the lesions that share voxels with the prior's and are in no change, not even a possible one, the largest first.

    The volume then is that of the prior's lesions of which this one took over most; of a part of a lesion that has split, of
    which another part took over more, what they share. What the prior's mask does not have is neither new nor unchanged.
    """
    changed = {one.lesion for one in changes}
    changed_before = {one.prior_lesion for one in changes if one.prior_lesion is not None}
    boxes = ndimage.find_objects(current.labels)
    volumes = {lesion.id: lesion.volume_mm3 for lesion in prior.lesions}
    heirs = heirs_of(matches)
    found = []
    for lesion in current.lesions:
        own = [one for one in matches if one.lesion == lesion.id]
        if not own or lesion.id in changed or any(one.prior_lesion in changed_before for one in own):
            continue
        inherited = [number for number, heir in heirs.items() if heir == lesion.id and number in volumes]
        then = sum(volumes[number] for number in inherited) or sum(one.shared_mm3 for one in own)
        found.append(
            UnchangedLesion(
                lesion=lesion.id,
                volume_mm3=lesion.volume_mm3,
                prior_volume_mm3=float(then),
                centre_lps=lesion.centre_lps,
                point_lps=_point_in(current, lesion, boxes),
                region=lesion.region,
                laterality=lesion.laterality,
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.volume_mm3, one.lesion)))


def _point_in(examined: Examined, lesion: Lesion, boxes: Sequence[tuple[slice, ...] | None]) -> Point:
    """Return the position of the voxel furthest from a lesion's edge on its largest slice; its centre where it has no voxel."""
    box = boxes[lesion.id - 1] if 0 < lesion.id <= len(boxes) else None
    if box is None:
        return lesion.centre_lps
    inside: npt.NDArray[np.bool_] = examined.labels[box] == lesion.id
    k = int(inside.sum(axis=(1, 2)).argmax())
    depth = ndimage.distance_transform_edt(np.pad(inside[k], 1))[1:-1, 1:-1]
    j, i = np.unravel_index(int(depth.argmax()), depth.shape)
    at = [part.start + inside_box for part, inside_box in zip(box, (k, j, i), strict=True)]
    x, y, z = (float(value) for value in examined.volume.position_lps(at))
    return x, y, z
