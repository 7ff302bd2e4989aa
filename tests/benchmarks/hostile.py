"""Cost of four hostile objects: memory of the node's process and of its parser processes, and time for what comes after them.

Run ``python tests/benchmarks/hostile.py [--folder FOLDER]``; it needs 3 GB on that disk. Sent by C-STORE to a whole node are
1.5 MB that inflate to 1.5 GB, 24 MB of 3 million sequence items, a private element of 1 GB, two JPEG 2000 images of 2 kB and
10000 x 10000 under one SOP Instance UID; then a series of 24 images, whose time until it is filed is measured.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import psutil
from pydicom import Dataset, dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    MRImageStorage,
    generate_uid,
)
from pynetdicom import AE, _config

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)  # beside this file's folder lies a folder "dicom_node" of tests
from dicom_node.intake.parser import PROCESSES  # noqa: E402
from dicom_node.receive.file_meta import encode_file_meta  # noqa: E402
from tests.benchmarks.receive import WHOLE_NODE, make_images, python_receiver  # noqa: E402

MB = 1_000_000
ZEROS = bytes(MB)
IMAGES = 24
SYNTAXES = [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEG2000Lossless]


def element(group: int, number: int, vr: bytes, length: int) -> bytes:
    """Return the head of an element in Explicit VR Little Endian, with four bytes of length."""
    return struct.pack("<HH2sHL", group, number, vr, 0, length)


def identification(uid: str) -> bytes:
    """Return the elements that an object needs to be filed."""
    values = [
        (0x0008, 0x0016, MRImageStorage),
        (0x0008, 0x0018, uid),
    ]
    late = [(0x0020, 0x000D, generate_uid()), (0x0020, 0x000E, generate_uid())]
    return b"".join(_uid(*one) for one in values), b"".join(_uid(*one) for one in late)  # type: ignore[return-value]


def _uid(group: int, number: int, value: str) -> bytes:
    text = value.encode() + b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, b"UI", len(text)) + text


def head(uid: str, syntax: str) -> bytes:
    """Return preamble and file meta information."""
    return bytes(
        encode_file_meta(
            sop_class_uid=MRImageStorage,
            sop_instance_uid=uid,
            transfer_syntax_uid=syntax,
            calling_ae="SCU",
        )
    )


def deflate_bomb(path: Path) -> None:
    """Write 1.5 MB that inflate to 1.5 GB."""
    uid = generate_uid()
    early, late = identification(uid)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    with path.open("wb") as file:
        file.write(head(uid, DeflatedExplicitVRLittleEndian))
        file.write(packer.compress(early + element(0x0009, 0x1010, b"UN", 1500 * MB)))
        for _ in range(1500):
            file.write(packer.compress(ZEROS))
        file.write(packer.compress(late) + packer.flush())


def item_bomb(path: Path) -> None:
    """Write 24 MB of 3 million empty sequence items."""
    uid = generate_uid()
    early, late = identification(uid)
    sequence = element(0x0008, 0x1140, b"SQ", 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 3_000_000
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    path.write_bytes(head(uid, ExplicitVRLittleEndian) + early + sequence + end + late)


def long_element(path: Path) -> None:
    """Write an object with a private element of 1 GB."""
    uid = generate_uid()
    early, late = identification(uid)
    with path.open("wb") as file:
        file.write(head(uid, ExplicitVRLittleEndian) + early + element(0x0009, 0x1010, b"UN", 1000 * MB))
        for _ in range(1000):
            file.write(ZEROS)
        file.write(late)


def two_large_images(path: Path) -> None:
    """Write an image of 10000 x 10000 in JPEG 2000, and beside it another under the same UID."""
    uid, series, study = generate_uid(), generate_uid(), generate_uid()
    for number in (0, 1):
        ds = Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, uid
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
        ds.Rows = ds.Columns = 10_000
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
        coded = bytes(
            imagecodecs.jpeg2k_encode(np.full((10_000, 10_000), number, np.uint16), codecformat="j2k")
        )
        coded += b"\0" * (len(coded) % 2)
        ds.PixelData = (
            struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(coded))
            + coded
            + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        )
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta = dcmread(make_meta(path.with_suffix(".meta"), uid)).file_meta
        ds.save_as(path.with_suffix(f".{number}.dcm"), enforce_file_format=True)


def make_meta(path: Path, uid: str) -> Path:
    """Write a file with nothing but file meta information of JPEG 2000."""
    path.write_bytes(head(uid, JPEG2000Lossless))
    return path


BOMBS: dict[str, Callable[[Path], None]] = {
    "1.5 MB that inflate to 1.5 GB": deflate_bomb,
    "3 million sequence items": item_bomb,
    "private element of 1 GB": long_element,
    "two JPEG 2000 of 10000 x 10000": two_large_images,
}


def send(port: int, paths: list[Path]) -> None:
    """Send files as they are over one association; all must be acknowledged."""
    _config.STORE_SEND_CHUNKED_DATASET = True
    ae = AE("SCU")
    ae.dimse_timeout = ae.network_timeout = 300
    for syntax in SYNTAXES:
        ae.add_requested_context(MRImageStorage, syntax)
    assoc = ae.associate("127.0.0.1", port, ae_title="NODE", max_pdu=131072)
    assert assoc.is_established
    for path in paths:
        status = assoc.send_c_store(path)
        assert status and status.Status == 0, (path, status)
    assoc.release()


class Watch:
    """Resident memory of the node's own process and of its parser processes, MB, looked at all the time."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.node_mb, self.parser_mb = self._resident(self._process), 0.0
        self.before_mb = self.node_mb
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.node_mb = max(self.node_mb, self._resident(self._process))
            try:
                children = self._process.children()
            except psutil.Error:
                return
            for child in children:
                self.parser_mb = max(self.parser_mb, self._resident(child, "parser_process"))

    def _resident(self, process: psutil.Process, name: str = "") -> float:
        try:
            if name and not any(name in part for part in process.cmdline()):
                return 0.0
            return float(process.memory_info().rss) / MB
        except psutil.Error:
            return 0.0


def parsers(pid: int) -> int:
    """Count the parser processes of a node."""
    commands = [child.cmdline() for child in psutil.Process(pid).children()]
    return sum("dicom_node.intake.parser_process" in command for command in commands)


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    """Wait until something is so, and return the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it does not come"
        time.sleep(0.01)
    return time.monotonic() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bombs", nargs="+", choices=BOMBS, default=list(BOMBS))
    parser.add_argument(
        "--folder", help="on the file system that is measured; default: that of temporary files"
    )
    options = parser.parse_args()
    for name in options.bombs:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print(f"{name}: {measure(BOMBS[name], Path(folder))}", flush=True)  # noqa: T201


def measure(make: Callable[[Path], None], work: Path) -> str:
    """Send a bomb to a node, then other images; return the figures."""
    (work / "bomb").mkdir()
    make(work / "bomb" / "0.dcm")
    bombs = sorted((work / "bomb").glob("*.dcm"))
    make_images(work / "images", IMAGES, (320, 320))
    first, *others = sorted((work / "images").iterdir())
    inbox, aside = work / "data" / "inbox", work / "data" / "quarantine"

    def filed() -> int:
        return len(list((work / "data" / "series").rglob("*.dcm")))

    with python_receiver(WHOLE_NODE, work / "data") as (port, pid):
        send(port, [first])
        wait_for(lambda: filed() == 1 and parsers(pid) == PROCESSES, 120)  # both are warm after a while
        watch = Watch(pid)
        send(port, bombs)
        send(port, others)
        seconds = wait_for(lambda: filed() >= IMAGES, 120)
        settled = wait_for(lambda: not list(inbox.glob("*.dcm")), 300)
        watch.stop()
    kept = filed() + len(list(aside.glob("*.dcm")))
    reasons = "; ".join(path.read_text().strip() for path in aside.glob("*.txt"))
    return (
        f"node {watch.before_mb:.0f} -> {watch.node_mb:.0f} MB, parser processes {watch.parser_mb:.0f} MB; {IMAGES} other "
        f"images filed after {seconds:.2f} s, everything after {settled:.1f} s more; {kept} of {IMAGES + len(bombs)} kept; "
        f"{reasons or 'all filed'}"
    )


if __name__ == "__main__":
    main()
