"""The structures that the regions of lesions rest on."""

from __future__ import annotations

from enum import IntEnum


class Structure(IntEnum):
    """Classes of the network, in the order of its outputs."""

    BACKGROUND = 0
    OUTER_FLUID = 1
    LATERAL_VENTRICLE = 2
    LOWER_VENTRICLE = 3
    CORTEX = 4
    WHITE = 5
    DEEP_GREY = 6
    CEREBELLUM = 7
    BRAINSTEM = 8


VENTRICLES = (Structure.LATERAL_VENTRICLE, Structure.LOWER_VENTRICLE)
"""The lateral ventricles with their choroid plexus; the third and the fourth one."""
FREESURFER: dict[Structure, tuple[int, ...]] = {
    Structure.OUTER_FLUID: (24,),
    Structure.LATERAL_VENTRICLE: (4, 5, 31, 43, 44, 63, 136, 137, 163, 164),
    Structure.LOWER_VENTRICLE: (14, 15, 72),
    Structure.CORTEX: (3, 42),
    Structure.WHITE: (2, 41, 85, 25, 57),
    Structure.DEEP_GREY: (10, 11, 12, 13, 17, 18, 26, 28, 30, 49, 50, 51, 52, 53, 54, 58, 60, 62),
    Structure.CEREBELLUM: (7, 8, 46, 47),
    Structure.BRAINSTEM: (16,),
}
"""Numbers in whole-head label maps in FreeSurfer's numbering: 24 is all of the outer fluid there, 25 and 57 the lesions of the
heads' owners, in white matter."""
