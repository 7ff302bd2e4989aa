"""``dicom-node demo``: the whole way on one machine, from phantom studies to what a PACS gets back."""

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
from rich.text import Text

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_echo import echo
from dicom_node.deliver.c_store import send_files
from dicom_node.demo.archive import Archive
from dicom_node.demo.studies import (
    CHANGE,
    EXPECTED,
    EXPECTED_OF_CHANGE,
    EXPECTED_OF_STUDY,
    Objects,
    Study,
    by_block,
)
from dicom_node.errors import DeliveryError, NodeError
from dicom_node.worklog.follow import records
from dicom_node.worklog.records import Record

START_S = 60.0
FINISH_S = 900.0
CONFIGURATION = """\
[node]
ae_title = "LESIONNODE"
host = "127.0.0.1"
port = {port}

[series]
quiet_s = 1.0

[summary]
after_s = 0

[priors]
from = "pacs"
self_grade = false

[[destination]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs_port}
"""
LINES_WHY = 3
"""Of the worklog, shown where images were not taken."""
ENDS = frozenset({"delivered", "undelivered", "held", "ignored", "no-pipeline"})
"""Steps after which nothing more comes of a series."""


def scratch_folder(keep: Path | None) -> Path:
    """Return the folder that a person wants to keep, which must be new or empty; else a temporary one.

    Raises
    ------
    NodeError
        It holds something, or can't be made.
    """
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="dicom-node-demo-"))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        is_empty = not any(keep.iterdir())
    except OSError as error:
        raise NodeError(f"{keep}: {error.strerror}; give --keep another folder") from error
    if not is_empty:
        raise NodeError(f"{keep}: not empty; give --keep a new folder")
    return keep.resolve()


class Demo:
    """One demonstration in a scratch folder.

    Parameters
    ----------
    console : rich Console
        Where it is told.
    studies : sequence of Study
        What is sent.
    folder : Path
        Where it works, of :func:`scratch_folder`.
    is_kept : bool
        Whether all of it stays, or the previews only.
    """

    def __init__(self, console: Console, studies: Sequence[Study], folder: Path, *, is_kept: bool) -> None:
        self.console = console
        self.studies = studies
        self.kept = is_kept
        self.folder = folder
        # of each series, of the comparison with an earlier study, and the page
        self.answers = sum(len(study.series) + bool(study.earlier) + 1 for study in studies)
        self.archive = Archive(self.folder / "pacs")

    def run(self) -> bool:
        """Run it and say whether everything expected came back."""
        signal.signal(
            signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
        )  # the node must not outlive it
        self.console.print(f"Scratch folder {self.folder}", markup=False)
        files = [path for study in self.studies for path in self._write(study)]
        node_port = _free_port()
        self.archive.destinations["LESIONNODE"] = ("127.0.0.1", node_port)
        self.archive.start()
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
        ok = self._show() and delivered
        self.console.print(
            "Everything expected came back." if ok else "Not everything expected came back.",
            style="green" if ok else "red",
        )
        if not self.kept:
            for name in ("source", "node-data", "pacs"):
                if ok:
                    shutil.rmtree(self.folder / name, ignore_errors=True)
        return ok

    def _write(self, study: Study) -> list[Path]:
        for series in study.series:
            self.console.print(series.description, markup=False)
        if study.earlier is not None:
            self.archive.keep(study.earlier.write(self.folder / "source"))
            self.console.print(
                f"The PACS has a study of {study.earlier.day}, before {study.new_lesions} of the lesions",
                markup=False,
            )
        return study.write(self.folder / "source")

    def _start_node(self, config: Path) -> subprocess.Popen[bytes]:
        up = ["up", "--config", str(config), "--parent", str(os.getpid())]
        with (self.folder / "node.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dicom_node.cli", *up],
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
            for record in records(self.folder / "node-data", last=LINES_WHY):
                self._print(record)
            raise NodeError(f"the node did not take {len(files) - stored} of {len(files)} images")

    def _follow(self, node: subprocess.Popen[bytes]) -> bool:
        """Print the worklog until all jobs or the node have ended, or it takes too long; tell whether all were delivered."""
        stop = threading.Event()
        deadline = time.monotonic() + FINISH_S

        def watch() -> None:
            while not stop.wait(0.5):
                if node.poll() is not None or time.monotonic() > deadline:
                    stop.set()

        threading.Thread(target=watch, daemon=True).start()
        ends: list[str] = []
        try:
            with self.console.status("working ..."):
                for record in records(self.folder / "node-data", follow=True, stop=stop):
                    self._print(record)
                    if record.event in ENDS:
                        ends.append(record.event)
                    is_broken = set(ends) - {"delivered"}  # then a page may never come
                    if len(ends) == self.answers - (len(self.studies) if is_broken else 0):
                        break
        finally:
            stop.set()
        self._check_alive(node)
        return ends == ["delivered"] * self.answers

    def _print(self, record: Record) -> None:
        style = {"warning": "yellow", "error": "red"}.get(record.level, "")
        self.console.print(record.line(), style=style, markup=False, soft_wrap=True)

    def _show(self) -> bool:
        """Print what came back, of each series and at last each study's page, write the previews, and judge."""
        by_study: dict[str, list[Path]] = {}
        for path in self.archive.files():
            by_study.setdefault(str(dcmread(path, stop_before_pixels=True).StudyInstanceUID), []).append(path)
        answers = {study.name: by_block(by_study.get(study.uid, [])) for study in self.studies}
        table = Table(title="What came back to the PACS", title_justify="left")
        for heading in ("of", "object", "number", "series", "in the series list as", ""):
            table.add_column(heading)
        complete = True
        for study in self.studies:
            complete &= _add_rows(table, study.name, EXPECTED_OF_STUDY, answers[study.name][""])
            for series in study.series:
                complete &= _add_rows(table, series.name, EXPECTED, answers[study.name][series.name])
            if study.earlier is not None:
                complete &= _add_rows(table, CHANGE, EXPECTED_OF_CHANGE, answers[study.name][CHANGE])
        self.console.print(table)
        for study in self.studies:
            complete &= self._show_study(study, answers[study.name])
        return complete

    def _show_study(self, study: Study, answers: Mapping[str, Objects]) -> bool:
        """Print the verdicts on a study and write its previews; the page comes last."""
        previews, complete = self.folder / "previews", True
        for series in study.series:
            good, line = series.judged(answers[series.name])
            complete &= good
            self.console.print(f"{series.name}: {line}", style="" if good else "red", markup=False)
            for path in series.previews(answers[series.name], previews, study.name):
                self.console.print(f"Preview {path}", markup=False, soft_wrap=True)
        good, line = study.judged(answers[""])
        self.console.print(
            f"Page of the study: {line}", style="" if good else "red", markup=False, soft_wrap=True
        )
        for path in study.page(answers[""], previews):
            self.console.print(f"Preview {path}", markup=False, soft_wrap=True)
        return complete and good


def _add_rows(table: Table, of: str, expected: Mapping[str, str], objects: Objects) -> bool:
    """List what came back of a series or a study; say whether every kind is there and can be read."""
    complete = True
    for uid, what in expected.items():
        found = objects.get(uid, [])
        readable = [ds for ds in map(_read, found) if ds is not None]
        good = bool(found) and len(readable) == len(found)
        complete &= good
        listed = sorted({(int(ds.SeriesNumber), str(ds.SeriesDescription)) for ds in readable})
        number, name = (str(listed[0][0]), listed[0][1]) if listed else ("", "")
        more = f" and {len(listed) - 1} more" if len(listed) > 1 else ""
        table.add_row(
            of,
            what,
            str(len(found)),
            number,
            f"{name}{more}",
            Text("readable", "green") if good else Text("missing", "red"),
        )
    return complete


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
