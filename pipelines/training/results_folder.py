"""The folder that a training leaves: what was asked for, how it went, curves and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines.errors import DataSetError
from pipelines.training.figures import new_figure, save_figure
from pipelines.training.phase import Phase

CONFIG = "config.json"
HISTORY = "history.json"
METRICS = "metrics.json"
CURVES = "curves.png"


def make_folder(folder: Path) -> None:
    """Make a folder for results, or say why that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataSetError(f"cannot make {folder}: {error.strerror}; give another folder") from error


def write_json(path: Path, content: object) -> None:
    """Write JSON into a folder that is made if need be; whole or not at all; what is not a number becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    text = json.dumps(_plain(content), indent=1, ensure_ascii=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def _plain(content: object) -> object:
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a results folder.

    Raises
    ------
    DataSetError
        It cannot be read.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataSetError(f"{path} cannot be read ({error}); give another folder") from error


def software() -> dict[str, str]:
    """Return the versions of what computes."""
    return {name: version(name) for name in ("torch", "monai", "numpy")}


def draw_curves(history: Sequence[Mapping[str, float]], phases: Sequence[Phase], path: Path) -> None:
    """Draw the parts of the loss and the validation score over the steps of all phases, as PNG."""
    figure = new_figure(9, 6)
    above, below = figure.subplots(2, 1, sharex=True)
    before = [0]
    for number in range(len(phases)):
        before.append(
            before[-1] + int(max((h["step"] for h in history if h["phase"] == number), default=0.0))
        )
    names = sorted({key for entry in history for key in entry} - {"phase", "step", "score"})
    for axes, keys in ((above, names), (below, ["score"])):
        for key in keys:
            points = [(before[int(h["phase"])] + h["step"], h[key]) for h in history if key in h]
            if points:
                axes.plot(*zip(*points, strict=True), marker=".", label=key)
                axes.legend()
        for end in before[1:-1]:
            axes.axvline(end, color="grey", linewidth=0.8)
        axes.grid(alpha=0.3)
    above.set_ylabel("loss")
    below.set_ylabel("validation score")
    below.set_xlabel("step, phases: " + ", ".join(phase.name for phase in phases))
    save_figure(figure, path)
