"""A soak of the whole node: mixed studies at three times the rate that it can sustain, each part killed now and then.

    python tests/integration/soak.py --minutes 60

A third of the time studies come in, the rest is for the queue to drain. The pipeline is the fast one of
faults/fake.py, so that the node and not a network is worn; pages of studies, which take longer to draw than that pipeline
to answer, are off. Prints a table in Markdown; exit status 1 when
anything was lost, arrived twice, or the memory of a process grew.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])  # in this file's folder lies no package

import psutil  # noqa: E402
from pydicom import dcmread  # noqa: E402

from dicom_node.jobs.states import JobState, SeriesState  # noqa: E402
from dicom_node.jobs.store import Store  # noqa: E402
from tests.factories import mr_series  # noqa: E402
from tests.integration.faults.site import Site  # noqa: E402
from tests.integration.systems import program, wait_until  # noqa: E402

SENDERS = 24
PARTS = ("receiver", "parser", "child", "worker", "valkey", "node")
KINDS = ("2D FLAIR", "Enhanced FLAIR", "T1", "localizer", "FLAIR twice", "FLAIR with a late image")
WANTED = {kind for kind in KINDS if "FLAIR" in kind}
MEASURED = 20 * len(KINDS)
GROWTH_ALLOWED = 1.15
SHAPE = (20, 96, 96)
FLAIR = {"EchoTime": 90.0, "RepetitionTime": 9000.0}
T1 = {"SeriesDescription": "t1_mprage", "ScanningSequence": "GR", "EchoTime": 2.3, "InversionTime": None}


class Template:
    """One series of a kind, of which copies with UIDs of their own are made in no time."""

    def __init__(self, folder: Path, kind: str) -> None:
        tags: dict[str, object] = {"T1": T1, "localizer": {**T1, "SeriesDescription": "localizer"}}.get(
            kind, FLAIR
        )
        shape = (3, 96, 96) if kind == "localizer" else SHAPE
        paths = mr_series(folder, shape=shape, enhanced=kind == "Enhanced FLAIR", seed=f"soak {kind}", **tags)
        self.contents = [path.read_bytes() for path in paths]
        self.uids: dict[bytes, None] = {}
        for path in paths:
            ds = dcmread(path, stop_before_pixels=True)
            for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
                self.uids[str(ds[keyword].value).encode()] = None

    def copy(self, folder: Path, number: int) -> list[Path]:
        """Write a copy: the last digits of each UID tell which UID of which copy it is."""
        folder.mkdir(parents=True)
        fresh = {uid: uid[:-9] + f"{which:03d}{number:06d}".encode() for which, uid in enumerate(self.uids)}
        paths = []
        for position, content in enumerate(self.contents):
            made = functools.reduce(lambda data, uid: data.replace(uid, fresh[uid]), fresh, content)
            paths.append(folder / f"{position:04d}.dcm")
            paths[-1].write_bytes(made)
        return paths


class Load:
    """Studies of every kind, one after another, from several senders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.templates = {kind: Template(folder / f"template-{n}", kind) for n, kind in enumerate(KINDS)}
        self.sent: Counter[str] = Counter()
        self.again = 0
        self._number = 0
        self._lock = threading.Lock()

    def study(self, kind: str = "") -> tuple[str, list[list[Path]]]:
        """Write the next study; return its kind and the parts in which it is sent."""
        with self._lock:
            self._number += 1
            number = self._number
        kind = kind or KINDS[number % len(KINDS)]
        files = self.templates[kind].copy(self.folder / str(number), number)
        if kind == "FLAIR twice":
            return kind, [files, files]
        if kind == "FLAIR with a late image":
            return kind, [files[:5] + files[6:], files[5:6]]
        return kind, [files]

    def send(self, site: Site) -> None:
        """Send the next study until all of it is acknowledged."""
        kind, parts = self.study()
        for number, files in enumerate(parts):
            if kind == "FLAIR twice" and number == 1:
                again = len(site.taken(files))
                with self._lock:
                    self.again += again
            else:
                site.send(files, timeout_s=300)
        with self._lock:
            self.sent[kind] += 1


class DcmtkSite(Site):
    """A site whose senders are DCMTK's: the two cores are the node's, as they are in a hospital."""

    def taken(self, files: list[Path]) -> set[Path]:
        """Offer files; return those that were acknowledged."""
        command = [program("storescu"), "-v", "-R", "-nh", "-aet", "SCANNER", "-aec", "LESIONNODE"]
        log = subprocess.run(
            [*command, "127.0.0.1", str(self.port), *map(str, files)],
            check=False,  # the node may be dead
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        ).stdout
        taken = set()
        for line in log.splitlines():
            if "Sending file: " in line:
                path = Path(line.partition("Sending file: ")[2])
            elif "Received Store Response (Success)" in line:
                taken.add(path)
        self.acknowledged |= taken
        return taken


class Memory:
    """Resident memory of each part, sampled on a thread."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.samples: dict[str, list[tuple[float, float]]] = {part: [] for part in PARTS}
        self.deepest_queue = 0
        self.deepest_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        known: dict[str, psutil.Process] = {}  # looking for processes costs more than asking one
        while not self._ended.wait(5.0):
            states = Counter(self.site.states())
            waiting = states[JobState.QUEUED] + states[JobState.RUNNING] + states[JobState.DELIVERING]
            if waiting > self.deepest_queue:
                self.deepest_queue, self.deepest_at = waiting, time.monotonic()
            for part in PARTS:
                try:
                    process = known.get(part) or self.site.running(part)
                    if process is not None:
                        megabytes = process.memory_info().rss / 1e6
                        self.samples[part].append((time.monotonic(), megabytes))
                        known[part] = process
                except psutil.Error:
                    known.pop(part, None)

    def between(self, part: str, begin: float, end: float) -> float:
        """Median in MB of a part's samples in an interval; 0.0 without any."""
        found = sorted(size for at, size in self.samples[part] if begin <= at <= end)
        return found[len(found) // 2] if found else 0.0

    def most(self, part: str) -> float:
        """Largest sample in MB."""
        return max((size for _, size in self.samples[part]), default=0.0)


def sustainable_per_minute(site: Site, load: Load) -> float:
    """Send studies of every kind as fast as they are taken; return at which rate results came back."""
    site.send(load.study(KINDS[0])[1][0])
    site.settled()  # the worker is warm
    load.sent[KINDS[0]] += 1
    began = time.monotonic()
    for thread in feed(site, load, itertools.repeat(began, MEASURED)):
        thread.join()
    jobs = sum(load.sent[kind] for kind in WANTED)
    wait_until(lambda: drained(site, jobs), 900.0, "the studies of the measurement are analysed")
    return 60.0 * (jobs - 1) / (time.monotonic() - began)


def feed(site: Site, load: Load, dues: Iterator[float]) -> list[threading.Thread]:
    """Send a study at each of these times (of the monotonic clock) on several threads; return these."""
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                due = next(dues, None)
            if due is None:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            load.send(site)

    threads = [
        threading.Thread(target=work, name=f"sender-{number}", daemon=True) for number in range(SENDERS)
    ]
    for thread in threads:
        thread.start()
    return threads


def schedule(begin: float, end: float, chance: random.Random) -> Iterator[tuple[float, str]]:
    """Yield when each part is killed: twice each, in a random order, spread over the interval."""
    parts = [*PARTS, *PARTS]
    chance.shuffle(parts)
    step = (end - begin) / (len(parts) + 1)
    for number, part in enumerate(parts, start=1):
        yield begin + number * step, part


def soak(site: Site, minutes: float, folder: Path) -> list[str]:
    """Run it; print the table and return what went wrong."""
    chance = random.Random(20261121)
    load = Load(folder)
    sustainable = sustainable_per_minute(site, load)
    first = sum(load.sent.values())
    memory = Memory(site)
    killed: Counter[str] = Counter()
    begin = time.monotonic()
    end = begin + 60.0 * minutes / 3
    # three times the sustainable rate, of the series that become jobs
    gap_s = 60.0 / (3.0 * sustainable * len(KINDS) / len(WANTED))
    senders = feed(site, load, itertools.takewhile(lambda due: due < end, itertools.count(begin, gap_s)))
    for at, part in schedule(begin, end, chance):
        time.sleep(max(0.0, at - time.monotonic()))
        killed[part] += site.kill_one(part)
        if site.running("node") is None:
            site.start()
    for thread in senders:
        thread.join()
    fed = time.monotonic()
    jobs = sum(load.sent[kind] for kind in WANTED)
    offered = (jobs - first) / ((fed - begin) / 60.0)
    print(f"fed: {jobs} series for analysis; now draining", flush=True)  # noqa: T201
    wait_until(lambda: drained(site, jobs), 60.0 * max(minutes, 5) * 2, "the queue is drained")
    drained_at = time.monotonic()
    memory.stop()
    troubles = check(site, jobs)
    # The inbox may fill the queue for long after the last study: memory that holds the queue is no leak.
    full = max(fed, memory.deepest_at)
    quarter = (drained_at - full) / 4
    sizes = {}
    for part in PARTS:
        early = memory.between(part, full, full + quarter)
        late = memory.between(part, drained_at - quarter, drained_at)
        sizes[part] = (early, late, memory.most(part))
        if early and late > GROWTH_ALLOWED * early + 5.0:
            troubles.append(f"{part} grew from {early:.0f} to {late:.0f} MB")
    lost_runs = len(site.events("run-lost"))
    rows = [
        (
            "length",
            f"{(drained_at - begin) / 60:.1f} minutes, {(fed - begin) / 60:.1f} of them with studies coming in",
        ),
        ("sustainable rate of the same mix, measured first", f"{sustainable:.0f} analysed series a minute"),
        (
            "rate that came in",
            f"{offered:.0f} series for analysis a minute, {offered / sustainable:.1f} times that",
        ),
        ("series", ", ".join(f"{count} x {kind}" for kind, count in load.sent.items())),
        (
            "images acknowledged",
            f"{len(site.acknowledged)} (and {load.again} again), all of them in the spool",
        ),
        ("results", f"{jobs} expected, {len(site.jobs(JobState.DELIVERED))} delivered, each once"),
        ("deepest queue", f"{memory.deepest_queue} jobs, drained in {(drained_at - fed) / 60:.1f} minutes"),
        ("killed (SIGKILL)", ", ".join(f"{part} {killed[part]} times" for part in PARTS)),
        ("runs lost and done anew", str(lost_runs)),
        *[
            (
                f"memory of the {part}",
                f"{early:.0f} MB when the queue was deepest, {late:.0f} MB at the end, {most:.0f} MB at most",
            )
            for part, (early, late, most) in sizes.items()
        ],
    ]
    print("| | |\n|---|---|")  # noqa: T201
    for name, value in rows:
        print(f"| {name} | {value} |")  # noqa: T201
    return troubles


def drained(site: Site, jobs: int) -> bool:
    """Every job is delivered, or was replaced when a late image came."""
    time.sleep(1.0)  # asked all the time, and the PACS lives in this process too
    states = Counter(site.states())
    return states[JobState.DELIVERED] >= jobs and set(states) <= {JobState.DELIVERED, JobState.ABANDONED}


def check(site: Site, jobs: int) -> list[str]:
    """Return what is not as it must be."""
    troubles = []
    for claim in (site.assert_nothing_lost, site.assert_once):
        try:
            claim()
        except AssertionError as error:
            troubles.append(str(error).splitlines()[0])
    store = Store(site.data / "state.sqlite")
    try:
        waiting = [row.id[:8] for row in store.series_in(SeriesState.RECEIVING, SeriesState.HELD)]
        if waiting:
            troubles.append(f"series without a verdict: {', '.join(waiting)}")
        # a sender that a kill held up may bring its late image after the result: that is a revision
        delivered = store.jobs_in(JobState.DELIVERED)
        series = {job.series_uid for job in delivered}
        analysed = Counter((job.series_uid, frozenset(job.images)) for job in delivered)
        twice = [uid for (uid, _), count in analysed.items() if count > 1]
        if len(series) != jobs or twice:
            troubles.append(f"{len(series)} of {jobs} series have a result, {len(twice)} one twice")
        failed = [job.id[:8] for job in store.jobs_in(JobState.DELIVERED) if job.outcome != "findings"]
        if failed:
            troubles.append(f"jobs that failed: {', '.join(failed)}")
    finally:
        store.close()
    held = {
        str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        for path in site.data.glob("results/*/*.dcm")
    }
    if not set(site.pacs.held) <= held:
        troubles.append(f"{len(set(site.pacs.held) - held)} objects at the PACS belong to no result")
    return troubles


def main() -> int:
    """Read the arguments, run, tell."""
    parser = argparse.ArgumentParser(description="Soak of the whole node.")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of feeding and draining")
    minutes = parser.parse_args().minutes
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    site = DcmtkSite(folder / "site", extra="[storage]\nhigh_water = 0.98\n[summary]\nenabled = false")
    try:
        site.start()
        troubles = soak(site, minutes, folder / "studies")
    finally:
        site.close()
    for trouble in troubles:
        print(trouble, file=sys.stderr)  # noqa: T201
    if not troubles:
        shutil.rmtree(folder)
    return 1 if troubles else 0


if __name__ == "__main__":
    sys.exit(main())
