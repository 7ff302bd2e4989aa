"""``dicom-node demo``: the whole way on one machine, from a phantom study to what a PACS gets back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node.deliver.address import Address
from dicom_node.deliver.scu import echo, send_files
from dicom_node.errors import DeliveryError, NodeError
from dicom_node.receive.archive import Archive
from dicom_node.results.preview import heatmap_preview, mask_frames, mask_preview
from dicom_node.series.writer import write_series
from dicom_node.worklog.follow import records
from dicom_node.worklog.records import Record
from pipelines.types import BoolArray, Volume

START_S = 60.0
FINISH_S = 900.0
LEAST_DICE = 0.3
"""Overlap with the truth below which the demonstration fails: a wrong place or side gives 0, a chance mask below 0.05."""

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
HEATMAP = "1.2.840.10008.5.1.4.1.1.7"
EXPECTED = {
    SEGMENTATION: "SEG, lesion mask",
    "1.2.840.10008.5.1.4.1.1.88.34": "SR, measurements (TID 1500)",
    "1.2.840.10008.5.1.4.1.1.88.11": "SR, report as text",
    HEATMAP: "SC, heatmaps",
}
CONFIGURATION = """\
[node]
ae_title = "LESIONNODE"
host = "127.0.0.1"
port = {port}

[series]
quiet_s = 1.0

[[destination]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
"""
PATIENT = {"PatientName": "Phantom^Flair", "PatientID": "PHANTOM-1", "PatientSex": "O"}
STUDY = {"StudyDescription": "Phantom, no patient", "AccessionNumber": "DEMO-1"}


class Demo:
    """One demonstration in a scratch folder.

    Parameters
    ----------
    console : rich Console
        Where it is told.
    phantom : Volume
        What is sent.
    truth : bool array, shape (k, j, i)
        Its lesions.
    keep : Path or None
        The folder to work in, which is kept; else a temporary one, of which only the previews stay.
    """

    def __init__(self, console: Console, phantom: Volume, truth: BoolArray, keep: Path | None) -> None:
        self.console = console
        self.phantom = phantom
        self.truth = truth
        self.kept = keep is not None
        self.folder = keep.resolve() if keep else Path(tempfile.mkdtemp(prefix="dicom-node-demo-"))
        if keep and keep.exists() and any(keep.iterdir()):
            raise NodeError(f"{keep}: not empty; give --keep a new folder")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NodeError(f"{self.folder}: {error.strerror}; give --keep another folder") from error
        self.archive = Archive(self.folder / "pacs")

    def run(self) -> bool:
        """Run it and say whether everything expected came back."""
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
        )  # the node must not outlive it
        self.console.print(f"Scratch folder {self.folder}", markup=False)
        files = self._write_study()
        self.archive.start()
        node_port = _free_port()
        config = self.folder / "node.toml"
        config.write_text(CONFIGURATION.format(port=node_port, pacs_port=self.archive.port))
        node = self._start_node(config)
        try:
            address = Address("LESIONNODE", "127.0.0.1", node_port)
            self._wait_for_node(node, address)
            self._send(files, address)
            delivered = self._follow(node)
        finally:
            _stop(node)
            self.archive.stop()
        ok = self._show(files) and delivered
        self.console.print(
            "Everything expected came back." if ok else "Not everything expected came back.",
            style="green" if ok else "red",
        )
        if not self.kept:
            for name in ("source", "node-data", "pacs"):
                if ok:
                    shutil.rmtree(self.folder / name, ignore_errors=True)
        return ok

    def _write_study(self) -> list[Path]:
        k, j, i = self.phantom.array.shape
        volume_ml = self.truth.sum() * self.phantom.voxel_volume_mm3 / 1000
        self.console.print(
            f"Phantom FLAIR from the MNI152 template: {k} slices of {j} x {i}, {volume_ml:.1f} mL of lesions"
        )
        return write_series(
            self.phantom,
            self.folder / "source",
            patient=PATIENT,
            study=STUDY,
            attributes=self.phantom.attributes,
        )

    def _start_node(self, config: Path) -> subprocess.Popen[bytes]:
        with (self.folder / "node.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dicom_node.cli", "up", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait_for_node(self, node: subprocess.Popen[bytes], address: Address) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                echo(address, "SCANNER")
            except DeliveryError as error:
                self._check_alive(node)
                if time.monotonic() > deadline:
                    raise NodeError(f"the node does not answer after {START_S:g} s: {error}") from error
                time.sleep(0.2)
            else:
                return

    def _check_alive(self, node: subprocess.Popen[bytes]) -> None:
        if node.poll() is not None:
            lines = (self.folder / "node.log").read_text().strip().splitlines()
            raise NodeError(f"the node ended: {lines[-1] if lines else 'it said nothing'}")

    def _send(self, files: Sequence[Path], address: Address) -> None:
        with Progress(console=self.console, transient=True) as progress:
            task = progress.add_task(f"C-STORE to {address}", total=len(files))
            results = send_files(address, files, "SCANNER", progress=lambda _: progress.advance(task))
        stored = sum(result.outcome.stored for result in results)
        self.console.print(
            f"{stored} of {len(files)} images sent to {address}; the worklog says:", markup=False
        )
        if stored < len(files):
            raise NodeError("the node did not take all images")

    def _follow(self, node: subprocess.Popen[bytes]) -> bool:
        """Print the worklog until the job or the node has ended, or it takes too long; tell whether it was delivered."""
        stop = threading.Event()
        deadline = time.monotonic() + FINISH_S

        def watch() -> None:
            while not stop.wait(0.5):
                if node.poll() is not None or time.monotonic() > deadline:
                    stop.set()

        threading.Thread(target=watch, daemon=True).start()
        last = ""
        try:
            with self.console.status("working ..."):
                for record in records(self.folder / "node-data", follow=True, stop=stop):
                    self._print(record)
                    last = record.event
                    if last in {"delivered", "undelivered", "held", "ignored", "no-pipeline"}:
                        break
        finally:
            stop.set()
        self._check_alive(node)
        return last == "delivered"

    def _print(self, record: Record) -> None:
        style = {"warning": "yellow", "error": "red"}.get(record.level, "")
        self.console.print(record.line(), style=style, markup=False, soft_wrap=True)

    def _show(self, files: Sequence[Path]) -> bool:
        """Print what came back, write the previews, and judge."""
        objects: dict[str, list[Path]] = {}
        for path in self.archive.files():
            header = dcmread(path, stop_before_pixels=True)
            objects.setdefault(str(header.SOPClassUID), []).append(path)
        table = Table(title="What came back to the PACS", title_justify="left")
        for heading in ("object", "number", "series", "in the series list as", ""):
            table.add_column(heading)
        complete = True
        for uid, what in EXPECTED.items():
            found = objects.get(uid, [])
            readable = [ds for ds in map(_read, found) if ds is not None]
            good = bool(found) and len(readable) == len(found)
            complete &= good
            first = readable[0] if readable else Dataset()
            table.add_row(
                what,
                str(len(found)),
                str(first.get("SeriesNumber", "")),
                str(first.get("SeriesDescription", "")),
                "[green]readable[/]" if good else "[red]missing[/]",
            )
        self.console.print(table)
        return self._show_mask(files, objects) and complete

    def _show_mask(self, files: Sequence[Path], objects: Mapping[str, Sequence[Path]]) -> bool:
        segs = objects.get(SEGMENTATION, [])
        if not segs:
            return False
        mask = self._mask_on_phantom(segs[0])
        dice = 2 * float((mask & self.truth).sum()) / max(1.0, float(mask.sum() + self.truth.sum()))
        volume_ml = float(mask.sum()) * self.phantom.voxel_volume_mm3 / 1000
        good = dice >= LEAST_DICE
        self.console.print(
            f"Mask: {volume_ml:.1f} mL, Dice {dice:.2f} with the truth (a phantom: it says nothing about patients)",
            style="" if good else "red",
        )
        previews = self.folder / "previews"
        previews.mkdir(exist_ok=True)
        written = [mask_preview(segs[0], files, previews / "mask.png")]
        heatmaps = sorted(objects.get(HEATMAP, []), key=_instance_number)
        for path in heatmaps[len(heatmaps) // 2 :][:1]:
            written.append(heatmap_preview(path, previews / "heatmap.png"))
        for path in written:
            self.console.print(f"Preview {path}", markup=False, soft_wrap=True)
        return good

    def _mask_on_phantom(self, seg: Path) -> BoolArray:
        """Read the SEG and put each frame, by its position, on the phantom's slice."""
        mask = np.zeros(self.truth.shape, dtype=bool)
        to_voxel = np.linalg.inv(self.phantom.affine)
        for frame in mask_frames(dcmread(seg)):
            k = round(float((to_voxel @ (*frame.position, 1.0))[2]))
            mask[k] |= frame.mask
        return mask


def _instance_number(path: Path) -> int:
    return int(dcmread(path, stop_before_pixels=True).InstanceNumber)


def _read(path: Path) -> Dataset | None:
    """Read an object with its pixels, where it has some; None when that can't be done."""
    try:
        ds = dcmread(path)
        if "PixelData" in ds:
            np.asarray(ds.pixel_array)
    except (OSError, ValueError, AttributeError, KeyError, RuntimeError):
        return None
    return ds


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(node: subprocess.Popen[bytes]) -> None:
    if node.poll() is None:
        node.send_signal(signal.SIGTERM)
        try:
            node.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(node.pid, signal.SIGKILL)
            node.wait()
