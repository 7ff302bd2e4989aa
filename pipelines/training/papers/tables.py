"""Figures of papers 1 and 3 as they were published, and tables with ours beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PAPER_THREE = "Front Neurosci 2024, 10.3389/fnins.2024.1351387, five-fold on its own data"
PAPER_ONE = "paper 1, mean of 100 seeds of 15 MS and 15 NMOSD on its own data"
SEGMENTATION_COLUMNS = {"DSC": "dice", "PPV": "ppv", "TPR": "tpr", "VD": "volume_difference"}
CLASS_COLUMNS = {"ACC": "accuracy", "SN": "sensitivity", "SP": "specificity", "AUC": "auc"}
ADDED_COLUMNS = {
    "F1": "lesion_f1",
    "F1 <10": "f1_below_10",
    "F1 10-100": "f1_10_to_100",
    "F1 >100": "f1_above_100",
}
"""Lesion-wise, in percent; beside the paper's own."""
PAPER_ONE_COLUMNS = {
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "PPV": "ppv",
    "NPV": "npv",
    "AUC": "auc",
}
PUBLISHED_SEGMENTATION = {
    "unet3d": (70.64, 74.11, 65.25, 36.38),
    "vnet": (71.93, 72.24, 69.71, 43.43),
    "attention-unet": (72.07, 70.22, 71.32, 26.67),
    "joint": (74.87, 73.94, 72.21, 22.34),
    "joint:only-segmentation": (71.24, 70.14, 69.87, 24.97),
}
"""Percent, by our names; columns as in `SEGMENTATION_COLUMNS`."""
PUBLISHED_CLASSES = {
    "resnet50": (87.24, 87.14, 88.33, 94.84),
    "resnet101": (86.63, 80.28, 92.38, 87.66),
    "resnet152": (86.40, 85.52, 85.47, 85.43),
    "densenet121": (88.36, 90.85, 83.57, 92.47),
    "senet50": (89.80, 86.00, 93.57, 93.33),
    "joint": (92.16, 95.60, 92.60, 96.33),
}
PUBLISHED_FIVE_SLICES = {
    "accuracy": "76.1 (74.8-77.4)",
    "sensitivity": "77.3",
    "specificity": "74.8",
    "PPV": "76.9",
    "NPV": "78.6",
    "AUC": "85",
}
"""Percent; NMOSD positive."""

Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return it as Markdown."""
        lines = [f"### {self.title}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        return "\n".join([*lines, *map(_line, self.rows)]) + "\n"


def _line(cells: Row) -> str:
    return "| " + " | ".join(cells) + " |"


def percent(value: float | None) -> str:
    """Return a share as percent with two places; a dash where it is not defined."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


def paper_table(
    title: str,
    columns: Mapping[str, str],
    published: Mapping[str, tuple[float | str, ...]],
    ours: Mapping[str, Mapping[str, float]],
    added: Mapping[str, str] | None = None,
) -> Table:
    """Return a table of paper 3 with two rows for each network: as published, where it was, and ours.

    Parameters
    ----------
    columns, added : mapping of heading to score
        ``added`` are ours alone.
    published : mapping of network to percentages, or a dash
    ours : mapping of network to shares
    """
    added = added or {}
    rows = []
    for name, scores in ours.items():
        if name in published:
            cells = [value if isinstance(value, str) else f"{value:.2f}" for value in published[name]]
            rows.append((name, "published", *cells, *["-"] * len(added)))
        cells = [percent(scores.get(key)) for key in (*columns.values(), *added.values())]
        rows.append((name, "ours", *cells))
    return Table(title, ("network", "", *columns, *added), tuple(rows))


def interval_table(title: str, ours: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> Table:
    """Return the table of paper 1: mean and 95 % confidence interval of each score, in percent."""
    rows: list[tuple[str, ...]] = [("five-slices", "published", *PUBLISHED_FIVE_SLICES.values())]
    for name, scores in ours.items():
        cells = []
        for key in PAPER_ONE_COLUMNS.values():
            mean, low, high = scores[key]
            known = math.isfinite(mean)
            cells.append(f"{100 * mean:.1f} ({100 * low:.1f}-{100 * high:.1f})" if known else "-")
        rows.append((name, "ours", *cells))
    return Table(title, ("network", "", *PAPER_ONE_COLUMNS), tuple(rows))
