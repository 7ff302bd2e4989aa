"""How fast images come in: the node's receiver beside DCMTK's storescp and a plain pynetdicom SCP.

Run ``python tests/benchmarks/receive.py [--images 200] [--rounds 3] [--associations 1 4]``. DCMTK's storescu
sends the same images to each receiver in turn, TCP_NODELAY at both ends. The node synchronises every file to
the disk before it answers; the others do not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
NODELAY = {**os.environ, "TCP_NODELAY": "1"}

NODE = """
import sys
from pathlib import Path
from dicom_node.receive.admission import Admission
from dicom_node.receive.scp import StorageSCP
from dicom_node.receive.spool import Spool

class Silent:
    def __getattr__(self, name):
        return lambda *details: None

scp = StorageSCP(ae_title="NODE", host="127.0.0.1", port=0, spool=Spool(Path(sys.argv[1]), 1.0),
                 admission=Admission(), events=Silent())
scp.start()
print(scp.port, flush=True)
sys.stdin.read()
"""

PLAIN = """
import socket, sys
from pathlib import Path
from pynetdicom import AE, AllStoragePresentationContexts, evt

folder = Path(sys.argv[1])
folder.mkdir()

def store(event):
    ds = event.dataset
    ds.file_meta = event.file_meta
    ds.save_as(folder / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
    return 0

def nodelay(event):
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

ae = AE("NODE")
ae.supported_contexts = AllStoragePresentationContexts
ae.maximum_pdu_size = 131072
handlers = [(evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, nodelay)]
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
print(server.server_address[1], flush=True)
sys.stdin.read()
"""


def make_images(folder: Path, count: int) -> int:
    """Write MR images of 320 x 320 pixels, 16 bits each, and return the size of one in bytes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    series, study = generate_uid(), generate_uid()
    for number in range(1, count + 1):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, generate_uid()
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
        ds.PatientID, ds.Modality, ds.InstanceNumber = "BENCH", "MR", number
        ds.Rows = ds.Columns = 320
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.add_new("PixelData", "OW", rng.integers(0, 4000, (320, 320), dtype=np.uint16).tobytes())
        ds.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return (folder / "1.dcm").stat().st_size


@contextmanager
def python_receiver(script: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a receiver of ours; gives its port and process ID."""
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
        process.kill()


@contextmanager
def storescp(_: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run DCMTK's storescp, which writes what it receives as it is."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["storescp", "--fork", "+B", "-pdu", "131072", "-od", str(folder), str(port)]
    with subprocess.Popen(command, env=NODELAY, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 10
        while subprocess.run(
            ["echoscu", "127.0.0.1", str(port)], capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, "storescp did not start"
        yield port, process.pid
        process.kill()


RECEIVERS: dict[str, tuple[Callable[..., object], str]] = {
    "dicom-node (fsync)": (python_receiver, NODE),
    "pynetdicom, decode and save": (python_receiver, PLAIN),
    "DCMTK storescp": (storescp, ""),
}


def send(port: int, images: Path, associations: int) -> float:
    """Send the images over several associations at once, and return the seconds that it took."""
    command = ["storescu", "-R", "-aec", "NODE", "-pdu", "131072", "+sd", "127.0.0.1", str(port), str(images)]
    start = time.perf_counter()
    senders = [subprocess.Popen(command, env=NODELAY) for _ in range(associations)]
    assert [sender.wait() for sender in senders] == [0] * associations
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    options = parser.parse_args()
    table = Table("receiver", "associations", "images/s", "MB/s", "memory MB", title="C-STORE, loopback")
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        size = make_images(work / "images", options.images)
        rates: dict[tuple[str, int], list[float]] = {}
        memory: dict[tuple[str, int], float] = {}
        for number in range(options.rounds):
            for associations in options.associations:
                for receiver, (run, script) in RECEIVERS.items():
                    folder = work / "received"
                    with run(script, folder) as (port, pid):  # type: ignore[attr-defined]
                        seconds = send(port, work / "images", associations)
                        memory[receiver, associations] = psutil.Process(pid).memory_info().rss / 1e6
                    shutil.rmtree(folder)
                    rates.setdefault((receiver, associations), []).append(
                        associations * options.images / seconds
                    )
                    progress.print(f"round {number + 1}: {receiver}, {associations} at once, {seconds:.1f} s")
    for (receiver, associations), measured in sorted(rates.items(), key=lambda item: item[0][1]):
        rate = statistics.median(measured)
        megabytes = memory[receiver, associations]
        table.add_row(
            receiver, str(associations), f"{rate:.0f}", f"{rate * size / 1e6:.0f}", f"{megabytes:.0f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
