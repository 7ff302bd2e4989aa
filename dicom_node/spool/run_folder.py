"""The folder of one run, ``results/<job>.run<N>``, and how it becomes ``results/<job>``.

Making the folder claims the run, renaming it decides which run counts. Both are atomic, so that a message
that is delivered twice, or a run that was given up too early, can do no harm.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import sync_folder

LEASE = "lease"
EVENTS = "events.jsonl"
MANIFEST = "manifest.json"
HEARTBEAT_S = 5.0

STARTED = "started"
STAGE = "stage"
TIMED_OUT = "timed-out"
LOST = "lost"
STOPPED = "the worker was stopped"
"""Reason of a death that is nobody's fault, and counts as no attempt."""
DEATHS = frozenset({TIMED_OUT, LOST})

_RUN_NAME = re.compile(r"([0-9a-f]{32})\.run([1-9][0-9]{0,5})")
_FOLDER_NAME = re.compile(r"([0-9a-f]{32})\.(?:run|was)([1-9][0-9]{0,5})")


def run_name(job_id: str, run: int) -> str:
    """Return the name of a run: of its folder, and of its task at the broker."""
    return f"{job_id}.run{run}"


def run_path(results: Path, name: str) -> Path:
    """Return the folder of a run by its name; SpoolError when the name is not one of ours."""
    if not _RUN_NAME.fullmatch(name):
        raise SpoolError(f"not the name of a run: {name!r}")
    return results / name


def finished_path(results: Path, job_id: str) -> Path | None:
    """Return the folder with a job's results when it is whole, else None."""
    folder = results / job_id
    return folder if (folder / MANIFEST).is_file() else None


def begun(results: Path) -> set[str]:
    """Return the IDs of all jobs that have a folder of any kind, by one look at the folder of them all."""
    try:
        with os.scandir(results) as entries:
            return {entry.name.partition(".")[0] for entry in entries}
    except FileNotFoundError:
        return set()


def last_run(results: Path, job_id: str) -> int:
    """Return the highest run of a job that has or had a folder of its own; 0 when there is none."""
    found = (_FOLDER_NAME.fullmatch(path.name) for path in results.glob(f"{job_id}.*"))
    return max((int(match[2]) for match in found if match), default=0)


def set_aside(results: Path, job_id: str, run: int) -> None:
    """Keep a job's results as ``<job>.was<run>``, to make room for those of a new run."""
    if (results / job_id).exists():
        (results / job_id).rename(results / f"{job_id}.was{run}")
        sync_folder(results)


def remove_leftovers(results: Path, job_id: str, *, up_to: int | None = None) -> None:
    """Remove the folders of runs that did not become the job's results; of later ones than `up_to` none, where it is given."""
    for path in results.glob(f"{job_id}.run*"):
        run = _RUN_NAME.fullmatch(path.name)
        if up_to is None or run is None or int(run[2]) <= up_to:
            shutil.rmtree(path, ignore_errors=True)


def note_death(folder: Path, event: str, reason: str) -> None:
    """Write into a run's folder that its process has ended; nothing when the folder is gone."""
    # The process may have died within a line: begin a new one.
    with contextlib.suppress(FileNotFoundError):
        _append(folder, {"event": event, "reason": reason}, before="\n")


def read_events(folder: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the events of a run after a byte offset, and the offset after the last whole line.

    A line that no worker writes is passed over: one that was cut off by the death of its writer, or a stage without
    a duration.
    """
    try:
        with (folder / EVENTS).open("rb") as stream:
            stream.seek(offset)
            text = stream.read()
    except FileNotFoundError:
        return [], offset
    whole = text[: text.rfind(b"\n") + 1]
    events = [event for line in whole.splitlines() if (event := _event_in(line)) is not None]
    return events, offset + len(whole)


def _event_in(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or (
        found.get("event") == STAGE and not _is_duration(found.get("seconds"))
    ):
        return None
    # A lone surrogate is allowed in JSON, and neither in the database nor in the worklog.
    return {
        name: value.encode(errors="replace").decode() if isinstance(value, str) else value
        for name, value in found.items()
    }


def _is_duration(seconds: object) -> bool:
    return (
        isinstance(seconds, (int, float)) and 0 <= seconds < 1e9
    )  # excludes NaN, and what is no float any more


class RunFolder:
    """A claimed run, for the process that works on it. Make one with :meth:`claim`."""

    def __init__(self, results: Path, job_id: str, run: int) -> None:
        self.results = results
        self.job_id = job_id
        self.path = run_path(results, run_name(job_id, run))

    @classmethod
    def claim(cls, results: Path, job_id: str, run: int) -> RunFolder | None:
        """Make the run's folder; None when the job is done, or this or a later run of it has begun."""
        folder = cls(results, job_id, run)
        if (results / job_id).exists() or last_run(results, job_id) >= run:
            return None
        try:
            folder.path.mkdir(mode=0o700)
        except FileExistsError:
            return None
        except OSError as error:
            raise SpoolError(f"{folder.path}: {error.strerror}") from error
        (folder.path / LEASE).touch()
        return folder

    def event(self, event: str, **figures: Any) -> None:
        """Append an event for the node to read."""
        _append(self.path, {"event": event, **figures})

    @contextlib.contextmanager
    def heartbeat(self, interval_s: float = HEARTBEAT_S) -> Iterator[None]:
        """Touch the lease until the block ends."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(interval_s):
                with contextlib.suppress(OSError):  # a full disk, or a folder taken away: the node notices
                    os.utime(self.path / LEASE)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def publish(self) -> bool:
        """Make all files durable and the folder the job's results; False when another run was faster."""
        (self.path / LEASE).unlink(missing_ok=True)
        try:
            for path in self.path.iterdir():
                if path.is_file():
                    _sync_file(path)
            sync_folder(self.path)
            if (self.results / self.job_id).exists():
                self.discard()
                return False
            self.path.rename(self.results / self.job_id)
            sync_folder(self.results)
        except FileNotFoundError:
            return False  # given up by the node and cleared away
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:
                self.discard()
                return False
            raise SpoolError(f"{self.path}: {error.strerror}") from error
        return True

    def discard(self) -> None:
        """Remove the run's folder."""
        shutil.rmtree(self.path, ignore_errors=True)


def _append(folder: Path, event: dict[str, Any], before: str = "") -> None:
    line = before + json.dumps({"at": round(time.time(), 3), **event}) + "\n"
    descriptor = os.open(folder / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
