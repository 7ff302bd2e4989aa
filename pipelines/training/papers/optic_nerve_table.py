"""Table 2 of paper 0 as it was published, and ours in its form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipelines.fatsat.settings import CropKind
from pipelines.training.papers.optic_nerve_protocol import PAPER_REPEATS
from pipelines.training.papers.tables import paper_table

COLUMNS = {
    f"{part} {short}": f"{part} {key}"
    for part in ("D1", "D2")
    for short, key in (("BA", "balanced accuracy"), ("sens", "sensitivity"), ("spec", "specificity"))
}
PUBLISHED = {
    "SVM": (50.8, 48.61, 52.99, 51.7, 68.57, 34.83),
    "RF": (53.06, 49.96, 56.15, 52.52, 65.71, 39.32),
    "3D CNN": (68.11, 67.97, 68.26, 64.11, 74.28, 53.39),
}
"""Percent; columns as in `COLUMNS`. NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187, Table 2."""
LOOKS = (
    "The crops that the 3D CNNs learn from also vary in sharpness, contrast, shading and noise; those of SVM and RF do not "
    "[ours]. CNN weights that were given have their own training, which may have had more eyes than D1."
)
Machine = Literal["SVM", "RF", "3D CNN"]


class Eyes(Protocol):
    """Eyes that methods were tested on; `pipelines.training.fatsat.crops.EyeSet` is one."""

    @property
    def scanners(self) -> npt.NDArray[np.str_]: ...  # noqa: D102
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Method:
    """A row of the table: a classifier on a crop."""

    machine: Machine
    crop: CropKind

    @property
    def name(self) -> str:
        """Name of its row; the published crop goes without saying."""
        return self.machine if self.crop == "published" else f"{self.machine}, {self.crop} crop"

    @property
    def stem(self) -> str:
        """Stem of the names of its files."""
        return f"{self.machine.replace(' ', '-').lower()}-{self.crop}"


METHODS = (
    Method("SVM", "published"),
    Method("RF", "published"),
    Method("3D CNN", "published"),
    Method("3D CNN", "along-nerve"),
)


def table_text(
    ours: Mapping[str, Mapping[str, float]], first: Eyes, second: Eyes | None, origin: str, repeats: int
) -> str:
    """Return Table 2 as Markdown: the published figures, ours beside them, and on whom ours were reached.

    Parameters
    ----------
    ours : mapping of the name of a `Method` to its figures
        As shares, under the names that are the values of `COLUMNS`.
    first, second : Eyes, Eyes or None
        D1 and D2.
    origin : "synthetic", "real" or "real and synthetic"
        Of the eyes.
    repeats : int
        Of the cross-validation.
    """
    where = "Synthetic phantoms" if origin == "synthetic" else f"Data set ({origin})"
    tested = "none" if second is None else f"{len(second)} eyes, scanner {_names(second.scanners)}"
    lines = [
        "# Comparison: optic nerve lesions on FAT-SAT",
        "",
        "Published figures are the paper's, on its own patients (NeuroImage Clin 2022, doi:10.1016/j.nicl.2022.103187, "
        f"Table 2, mean of {PAPER_REPEATS} repeats). They are not measured on the eyes of this table. In percent; BA: balanced "
        "accuracy.",
        "",
        f"## {where}",
        "",
        f"D1: {len(first)} eyes, scanner {_names(first.scanners)}, mean of {repeats} repeats by patient. "
        f"D2: {tested}.",
        "",
        *((LOOKS, "") if origin == "synthetic" else ()),
        paper_table("Table 2", COLUMNS, PUBLISHED, ours).markdown(),
    ]
    return "\n".join(lines)


def _names(values: npt.NDArray[np.str_]) -> str:
    return ", ".join(sorted(set(values.tolist())))
