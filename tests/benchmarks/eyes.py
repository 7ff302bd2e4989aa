"""How well and how fast the eyes are found on orbital phantoms: the table for the model card.

Run ``python tests/benchmarks/eyes.py [--draws 30] [--heads DIR] [--training-heads] [--geometry] [--seed 0]``. For both
scanners, as a technologist would plan the series and as widely as the pipeline takes it (tilts up to 30 degrees, 0.4 to 0.8
mm in plane, slices of 2 to 4 mm, either order), it prints how far the junctions are from the truth. All of it is synthetic;
the heads that the method was tuned on are left out unless asked for.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial import cKDTree

from pipelines.fatsat.eyes import find_eyes
from pipelines.phantoms.orbits import (
    TEST_HEADS,
    TRAINING_HEADS,
    LabelHeads,
    OrbitPhantom,
    draw_scan,
    geometric_orbits,
)

HEADS = Path(__file__).parents[3] / "shared" / "data" / "head_labels"
Draw = Callable[[np.random.Generator, bool, str], OrbitPhantom]


@dataclass
class Row:
    """What was measured for one kind of series."""

    eyes: int = 0
    junction_mm: list[float] = field(default_factory=list)
    centre_mm: list[float] = field(default_factory=list)
    course_mm: list[float] = field(default_factory=list)
    followed_mm: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    wrong_sides: int = 0

    def cells(self) -> list[str]:
        junction = np.array(self.junction_mm or [np.nan])
        found = len(self.junction_mm)
        return [
            str(self.eyes),
            f"{np.median(junction):.2f}",
            f"{np.percentile(junction, 95):.2f}",
            f"{junction.max():.1f}",
            f"{100 * (junction <= 6.0).mean():.1f} %",
            f"{100 * (junction <= 6.0).sum() / max(1, self.eyes):.1f} %",
            f"{100 * (1 - found / max(1, self.eyes)):.1f} %",
            str(self.wrong_sides),
            f"{np.median(self.centre_mm):.2f}" if found else "",
            f"{np.median(self.course_mm):.2f}" if found else "",
            f"{np.median(self.followed_mm):.0f}" if found else "",
            f"{np.median(self.seconds):.2f}",
            f"{np.max(self.seconds):.2f}",
            f"{np.median(self.cpu_seconds):.2f}",
        ]


def measure(phantom: OrbitPhantom, row: Row) -> None:
    """Find the eyes of a phantom and add the errors to a row."""
    started, worked = time.perf_counter(), time.process_time()
    eyes = find_eyes(phantom.volume)
    row.seconds.append(time.perf_counter() - started)
    row.cpu_seconds.append(time.process_time() - worked)
    for truth in phantom.eyes:
        row.eyes += 1
        eye = eyes.of(truth.side)
        if eye is None:
            continue
        row.junction_mm.append(float(np.linalg.norm(np.subtract(eye.junction_lps, truth.junction_lps))))
        row.centre_mm.append(float(np.linalg.norm(np.subtract(eye.centre_lps, truth.centre_lps))))
        row.wrong_sides += row.centre_mm[-1] > 30.0
        behind = eye.course_lps[: round(24.0 / 0.5)]
        row.course_mm.append(float(np.mean(cKDTree(truth.course_lps).query(behind)[0])))
        row.followed_mm.append(0.5 * (len(eye.course_lps) - 1))


def kinds(draw: Draw, draws: int, seed: int) -> Iterator[tuple[str, Row]]:
    """Measure each scanner, planned and wide."""
    for scanner in ("A", "B"):
        for wide in (False, True):
            row = Row()
            name = f"{scanner}, {'wide' if wide else 'planned'}"
            for number in track(range(draws), name, transient=True):
                measure(draw(np.random.default_rng([seed, number, ord(scanner), wide]), wide, scanner), row)
            yield name, row


def from_geometry(rng: np.random.Generator, wide: bool, scanner: str) -> OrbitPhantom:
    return geometric_orbits(rng, scan=draw_scan(rng, "A" if scanner == "A" else "B", wide=wide))


def from_labels(heads: LabelHeads) -> Draw:
    def draw(rng: np.random.Generator, wide: bool, scanner: str) -> OrbitPhantom:
        return heads.draw(rng, scan=draw_scan(rng, "A" if scanner == "A" else "B", wide=wide))

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--draws", type=int, default=30, help="series for each line")
    parser.add_argument("--heads", type=Path, default=HEADS, help="folder of head label maps")
    parser.add_argument(
        "--training-heads", action="store_true", help="the heads that the method was tuned on"
    )
    parser.add_argument("--geometry", action="store_true", help="heads from geometry alone as well")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sources: list[tuple[str, Draw]] = []
    if arguments.heads.is_dir():
        numbers = TRAINING_HEADS if arguments.training_heads else TEST_HEADS
        name = f"heads {numbers[0]}-{numbers[-1]}"
        sources.append((name, from_labels(LabelHeads(arguments.heads, numbers))))
    if arguments.geometry or not sources:
        sources.append(("geometry", from_geometry))
    table = Table(title="Synthetic orbits: junctions found, in mm from the truth")
    for column in (
        *("heads", "scanner", "eyes", "median", "95th", "worst", "within 6 mm of found", "of all", "refused"),
        *("wrong side", "centre", "course to 24 mm", "followed mm", "s median", "s worst", "CPU s"),
    ):
        table.add_column(column)
    for source, draw in sources:
        for kind, row in kinds(draw, arguments.draws, arguments.seed):
            table.add_row(source, kind, *row.cells())
    Console(width=200).print(table)


if __name__ == "__main__":
    main()
