"""How fast images come in: the node's receiver beside DCMTK's storescp, Orthanc and a plain pynetdicom SCP.

Run ``python tests/benchmarks/receive.py [--images 480] [--rounds 3] [--associations 1 4 16]``. DCMTK's storescu
sends the same images to each receiver in turn, a share over each association, TCP_NODELAY at both ends. The
node has every file on the disk before it answers; storescp and pynetdicom do not, Orthanc is as it comes. "Whole
node" files, indexes and writes its worklog meanwhile, in a process beside the receiver's; its CPU time is counted until
everything is filed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path[0] = str(ROOT)  # beside this file's folder lies a folder "dicom_node" of tests
from tests.programs import find_program  # noqa: E402

NODELAY = {**os.environ, "TCP_NODELAY": "1"}
PDU = 131072
KINDS = {"2D, 320 x 320": (320, 320), "3D, 256 x 254": (256, 254)}

NODE = """
import sys
from pathlib import Path
from dicom_node.receive.admission import Admission, Gate
from dicom_node.receive.limits import Limits
from dicom_node.receive.receiver_processes import Receivers
from dicom_node.spool.spool import Spool

class Silent:
    def __getattr__(self, name):
        return lambda *details: None

scp = Receivers(ae_title="NODE", host="127.0.0.1", port=0, spool=Spool(Path(sys.argv[1]), 1.0), tls=None,
                gate=Gate(Admission(), "NODE"), limits=Limits(), events=Silent(), processes=0)
scp.start()
print(scp.port, flush=True)
sys.stdin.read()
"""

WHOLE_NODE = """
import sys
from pathlib import Path
from dicom_node.config.settings import load_settings
from dicom_node.intake.intake import Intake
from dicom_node.jobs.store import Store
from dicom_node.receive.admission import Admission, Gate
from dicom_node.receive.limits import Limits
from dicom_node.receive.receiver_processes import Receivers
from dicom_node.spool.spool import Spool
from dicom_node.worklog.writer import Worklog

class NoJobs:
    def __getattr__(self, name):
        return lambda *details: None

spool = Spool(Path(sys.argv[1]), 1.0)
store = Store(spool.root / "state.sqlite")
settings = load_settings()
intake = Intake(settings, spool, store, Worklog(spool.root), {}, NoJobs())
intake.start()
scp = Receivers(ae_title="NODE", host="127.0.0.1", port=0, spool=spool, tls=None, gate=Gate(Admission(), "NODE"),
                limits=Limits(), events=intake, processes=settings.accept.processes)
scp.start()
print(scp.port, flush=True)
sys.stdin.read()
"""

PLAIN = """
import socket, sys
from pathlib import Path
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification

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
ae.add_supported_context(Verification)
ae.maximum_pdu_size = 131072
ae.maximum_associations = 100
handlers = [(evt.EVT_C_STORE, store), (evt.EVT_CONN_OPEN, nodelay)]
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
print(server.server_address[1], flush=True)
sys.stdin.read()
"""


def installed(name: str) -> str:
    """Return the path of a program of DCMTK or of Orthanc, or end in one line."""
    found = find_program(name)
    if found is None:
        sys.exit(f"{name} is not installed: apt-get install dcmtk orthanc")
    return found


def make_images(folder: Path, count: int, shape: tuple[int, int]) -> int:
    """Write a series of MR images, 16 bits a pixel, and return the size of one in bytes."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    series, study = generate_uid(), generate_uid()
    for number in range(1, count + 1):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, generate_uid()
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
        ds.PatientID, ds.Modality, ds.InstanceNumber = "BENCH", "MR", number
        ds.Rows, ds.Columns = shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.ImageOrientationPatient, ds.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 1]
        ds.ImagePositionPatient = [0, 0, number]
        ds.add_new("PixelData", "OW", rng.integers(0, 4000, shape, dtype=np.uint16).tobytes())
        ds.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)
    return (folder / "00001.dcm").stat().st_size


def share_out(images: Path, folder: Path, associations: int) -> list[Path]:
    """Link the images into one folder for each association."""
    shares = [folder / str(number) for number in range(associations)]
    for share in shares:
        share.mkdir(parents=True)
    for index, path in enumerate(sorted(images.iterdir())):
        (shares[index % associations] / path.name).hardlink_to(path)
    return shares


@contextmanager
def python_receiver(script: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run a receiver of ours; gives its port and process ID."""
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            wait_for_echo(port)
            yield port, process.pid
        finally:
            process.kill()


def wait_for_echo(port: int) -> None:
    """Wait until a receiver answers."""
    deadline = time.monotonic() + 20
    echo = [installed("echoscu"), "-aec", "NODE", "127.0.0.1", str(port)]
    while subprocess.run(echo, capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, "a receiver did not start"
        time.sleep(0.1)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def dcmtk_receiver(command: list[str], port: int) -> Iterator[tuple[int, int]]:
    """Run a receiver built on DCMTK, from the moment when it answers C-ECHO."""
    with subprocess.Popen(
        command, env=NODELAY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_for_echo(port)
            yield port, process.pid
        finally:
            process.kill()


@contextmanager
def storescp(_: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run DCMTK's storescp, which writes what it receives as it is, a process for each association."""
    folder.mkdir()
    port = free_port()
    command = [installed("storescp"), "--fork", "+B", "-pdu", str(PDU), "-od", str(folder), str(port)]
    with dcmtk_receiver(command, port) as running:
        yield running


@contextmanager
def orthanc(_: str, folder: Path) -> Iterator[tuple[int, int]]:
    """Run Orthanc with its own index and storage, as it comes."""
    folder.mkdir()
    port = free_port()
    settings = {
        "DicomAet": "NODE",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomAlwaysAllowStore": True,
        "MaximumPduLength": PDU,
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    with dcmtk_receiver([installed("Orthanc"), str(config)], port) as running:
        yield running


Receiver = Callable[[str, Path], object]
NODE_NAME, WHOLE_NAME = "dicom-node (fsync)", "dicom-node, whole node"
PLAIN_NAME = "pynetdicom, decode and save"
RECEIVERS: dict[str, tuple[Receiver, str]] = {
    NODE_NAME: (python_receiver, NODE),
    WHOLE_NAME: (python_receiver, WHOLE_NODE),
    PLAIN_NAME: (python_receiver, PLAIN),
    "DCMTK storescp": (storescp, ""),
    "Orthanc": (orthanc, ""),
}


def send(port: int, shares: list[Path]) -> float:
    """Send each share over an association of its own, all at once; return the seconds that it took."""
    command = [installed("storescu"), "-R", "-aec", "NODE", "-pdu", str(PDU), "+sd", "127.0.0.1", str(port)]
    start = time.perf_counter()
    senders = [subprocess.Popen([*command, str(share)], env=NODELAY) for share in shares]
    assert [sender.wait() for sender in senders] == [0] * len(shares)
    return time.perf_counter() - start


def wait_until_filed(folder: Path) -> None:
    """Wait until the node has filed and indexed what it has acknowledged: that is its work, too."""
    deadline = time.monotonic() + 60
    while any((folder / "inbox").iterdir()):
        assert time.monotonic() < deadline, "the node does not file what it has received"
        time.sleep(0.02)


def family(process: psutil.Process) -> list[psutil.Process]:
    """Return a process and its children."""
    return [process, *process.children(recursive=True)]


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and of all its children, those that have ended too once they are waited for."""
    total = 0.0
    for one in family(process):
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_mb(process: psutil.Process) -> float:
    """Peak resident memory of a process and its children, MB (VmHWM, proc(5))."""
    total = 0.0
    for one in family(process):
        with suppress(OSError):
            lines = Path(f"/proc/{one.pid}/status").read_text().splitlines()
            total += sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    return total


Figures = tuple[float, float, float]
"""Images a second, milliseconds of CPU an image, peak MB."""


def measure(receiver: str, folder: Path, shares: list[Path]) -> Figures:
    """Start a receiver and send it everything."""
    run, script = RECEIVERS[receiver]
    count = sum(len(list(share.iterdir())) for share in shares)
    with run(script, folder) as (port, pid):  # type: ignore[attr-defined]
        process = psutil.Process(pid)
        before = cpu_seconds(process)
        seconds = send(port, shares)
        if receiver == WHOLE_NAME:
            wait_until_filed(folder)
        time.sleep(0.2)
        return count / seconds, (cpu_seconds(process) - before) / count * 1000, peak_mb(process)


def show(kind: str, size: int, measured: dict[tuple[str, int], list[Figures]]) -> None:
    """Print the medians, and the node's rate as a multiple of each receiver's, taken round by round."""
    table = Table(
        title=f"C-STORE over loopback, {kind}, {size / 1000:.0f} kB, {psutil.cpu_count()} CPU cores"
    )
    for heading in (
        "associations",
        "receiver",
        "images/s",
        "MB/s",
        "CPU ms/image",
        "peak MB",
        "node is times",
    ):
        table.add_column(heading, justify="left" if heading == "receiver" else "right")
    for (receiver, associations), figures in sorted(measured.items(), key=lambda item: item[0][1]):
        rate, cpu, megabytes = (statistics.median(column) for column in zip(*figures, strict=True))
        nodes = measured.get((NODE_NAME, associations), [])
        ratio = statistics.median(a[0] / b[0] for a, b in zip(nodes, figures, strict=True)) if nodes else 0.0
        table.add_row(
            str(associations),
            receiver,
            f"{rate:.0f}",
            f"{rate * size / 1e6:.0f}",
            f"{cpu:.2f}",
            f"{megabytes:.0f}",
            f"{ratio:.2f}",
        )
    Console(width=120).print(table)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=480, help="in all, shared out to the associations")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--receivers", nargs="+", choices=RECEIVERS, default=list(RECEIVERS))
    parser.add_argument(
        "--folder", help="on the file system that is measured; default: that of temporary files"
    )
    options = parser.parse_args()
    progress = Console(stderr=True)
    for kind in options.kinds:
        measured: dict[tuple[str, int], list[Figures]] = {}
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            work = Path(name)
            size = make_images(work / "images", options.images, KINDS[kind])
            for number in range(options.rounds):
                for associations in options.associations:
                    shares = share_out(work / "images", work / f"shares{number}-{associations}", associations)
                    for index, receiver in enumerate(options.receivers):
                        # Nothing is removed before the end: ext4 hands out inodes slowly where many were freed.
                        figures = measure(receiver, work / f"in{number}-{associations}-{index}", shares)
                        measured.setdefault((receiver, associations), []).append(figures)
                        progress.print(
                            f"round {number + 1}: {receiver}, {associations} at once: {figures[0]:.0f}/s"
                        )
        show(kind, size, measured)


if __name__ == "__main__":
    main()
