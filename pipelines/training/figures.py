"""Figures as PNG, drawn by matplotlib without a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.training.extra import package


def new_figure(width_in: float, height_in: float) -> Any:
    """Return an empty figure of matplotlib."""
    figure = package("matplotlib.figure").Figure(figsize=(width_in, height_in), layout="constrained")
    package("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG at 100 dots an inch into a folder that is made if need be; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    figure.savefig(part, format="png", dpi=100)
    part.replace(path)
