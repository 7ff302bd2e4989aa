"""From the last image to the last object in the PACS: stages, and peak memory of node and worker.

Run: ``python -m tests.benchmarks.turnaround [NIFTI] [--kind flair|fatsat] [--runs N]``. The series is the NIfTI file, or a
phantom: a FLAIR of a clinical size (48 x 320 x 320), or FAT-SAT orbits as published (20 x 360 x 360). The first run loads the
model; the table shows the runs after it, with a warm worker.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_store import send_files
from dicom_node.demo.archive import Archive
from dicom_node.series.writer import volume_from_nifti, write_series
from pipelines.phantoms.flair import AXIAL_2D, Acquisition, flair_phantom
from pipelines.phantoms.orbits import geometric_orbits
from pipelines.types import Volume
from tests.integration.systems import RunningNode

TARGET_S = {"flair": 60.0, "fatsat": 20.0}
TARGET_WORKER_MB = 2560
TARGET_NODE_MB = 200
LIKE_CLINICAL = Acquisition((48, 320, 320), (3.0, 0.72, 0.72), "axial", AXIAL_2D.attributes)


def peak_mb(process: psutil.Process) -> float:
    """Peak resident memory, MB, of one process (VmHWM, proc(5))."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def seconds_between(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Seconds between two records of the worklog."""
    return (datetime.fromisoformat(second["time"]) - datetime.fromisoformat(first["time"])).total_seconds()


def measure(volume: Volume, runs: int, folder: Path) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Send the series `runs` + 1 times as different series; return the stages of each warm run, and peak memory."""
    archive = Archive(folder / "pacs")
    archive.start()
    node = RunningNode(folder / "node", archive.port)
    node.start()
    rows = []
    try:
        for run in range(runs + 1):
            files = write_series(
                volume, folder / f"source{run}", patient={}, study={}, attributes=volume.attributes, seed=run
            )
            send_files(Address("LESIONNODE", "127.0.0.1", node.port), files, "SCANNER")
            node.wait_for("delivered", 600, count=run + 1)
            rows.append(stages(node, run))
        worker = max(map(peak_mb, node.processes("worker")))
        assert node.process is not None
        memory = {"worker": worker, "node": peak_mb(psutil.Process(node.process.pid))}
    finally:
        node.stop()
        archive.stop()
    return rows[1:], memory


def stages(node: RunningNode, run: int) -> dict[str, float]:
    """Seconds of each stage of one run, by the worklog."""
    received, whole = node.events("received")[run], node.events("series-whole")[run]
    queued, running = node.events("queued")[run], node.events("running")[run]
    analysed, delivered = node.events("analysed")[run], node.events("delivered")[run]
    table = {"complete": seconds_between(received, whole), "queued": seconds_between(whole, queued)}
    table["started"] = seconds_between(queued, running)
    for stage in node.events("stage"):
        if stage["id"] == running["id"]:
            table[stage["stage"]] = float(stage["seconds"])
    table["sent"] = seconds_between(analysed, delivered)
    table["last image to last object"] = float(delivered["seconds"])
    return table


def _volume(kind: str, nifti: Path | None) -> Volume:
    """The series to be sent, with the attributes that route it."""
    if kind == "fatsat":
        return geometric_orbits(7, lesions=("right",)).volume
    volume = volume_from_nifti(nifti) if nifti else flair_phantom(1, LIKE_CLINICAL).volume
    return replace(volume, attributes=AXIAL_2D.attributes)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nifti", nargs="?", type=Path)
    parser.add_argument("--kind", choices=list(TARGET_S), default="flair")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    volume = _volume(arguments.kind, arguments.nifti)
    with tempfile.TemporaryDirectory() as folder:
        rows, memory = measure(volume, arguments.runs, Path(folder))
    k, j, i = volume.array.shape
    table = Table(
        title=f"{arguments.kind}, {k} x {j} x {i}, {arguments.runs} runs with a warm worker, {psutil.cpu_count()} CPU cores"
    )
    for heading in ("stage", "median s", "min s", "max s"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in rows[0]:
        values = [row[stage] for row in rows]
        table.add_row(stage, f"{statistics.median(values):.1f}", f"{min(values):.1f}", f"{max(values):.1f}")
    console = Console()
    console.print(table)
    console.print(f"last image to last object: at most {TARGET_S[arguments.kind]:g} s wanted")
    if arguments.kind == "flair":
        console.print("analysed, from reading to the objects: at most 10 s wanted on two idle cores")
    if arguments.kind == "fatsat":
        console.print("eyes: at most 3 s wanted; ensemble and saliency together: at most 5 s")
    console.print(
        f"peak memory: worker {memory['worker']:.0f} MB (at most {TARGET_WORKER_MB} wanted), ", end=""
    )
    console.print(f"node {memory['node']:.0f} MB (at most {TARGET_NODE_MB} wanted)")


if __name__ == "__main__":
    main()
