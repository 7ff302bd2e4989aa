"""The node's parser processes: kept warm, given files to read, and replaced when they die, hang or have grown.

No byte that was received is parsed in the node itself. A file that two processes died over is not tried a third time.
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from dicom_node.errors import NodeError, UnreadableError
from dicom_node.intake.parser_process import (
    Answer,
    Begin,
    Request,
    decode_answer,
    encode_begin,
    encode_requests,
)
from dicom_node.series.headers import ImageHeader
from dicom_node.series.process_limits import OUT_OF_MEMORY
from dicom_node.spool.durable import write_all
from dicom_node.spool.in_hand import InHand
from dicom_node.spool.spool import Spool

LOGGER = logging.getLogger(__name__)

PROCESSES = 2
"""One goes on while the other has a file that takes long."""
PATIENCE_S = 0.5
"""After this time a file takes long: what came after it goes to another process."""
CHUNK = 16
"""Requests that a process is given at once."""
MEMORY_MB = 1500
PROCESSOR_S = 30
"""Limits of a process: memory beyond what it has at its start, and processor time for one file."""
DEATHS = 2
"""A file that so many processes died over is not tried again."""
HANG_S = 600.0
"""A process that has not answered for so long waits for the disk, and is replaced; that is not the file's fault."""
REQUESTS = 20_000
"""A process is replaced after so many, ..."""
GROWN_MB = 300
"""... or when it has grown to this."""
STOP_WAIT_S = 0.2
START_PAUSE_S = 30.0
"""Time after the first process at which the second is started, unless it is needed before."""
STARTS = 3
"""So many processes that die one after the other with nothing in hand can't be started."""

OnLate = Callable[[Request, Answer], None]
"""Told, on another thread, what comes of a request that took long."""


class ParserStoppedError(NodeError):
    """The parser processes were stopped while they were asked."""


class DeadlyError(UnreadableError):
    """A file that processes died over."""


class Reader(Protocol):
    """Reader of headers and comparer of copies, as the filer asks for them."""

    def ask(self, requests: Sequence[Request], on_late: OnLate | None = None) -> dict[Request, Answer]:
        """Return what comes of requests; `on_late` is told, on another thread, what comes of those that are left out."""

    def warm_up(self) -> None:
        """Get ready, so that the first file need not wait."""

    def stop(self) -> None:
        """End, also while it is asked."""


def headers_of(reader: Reader, paths: Sequence[Path]) -> Iterator[tuple[Path, ImageHeader | UnreadableError]]:
    """Yield files with what their headers say, or why they can't be read; those that are gone are left out.

    Raises
    ------
    OSError
        The disk refuses.
    NodeError
        As `Parser.ask`.
    """
    for start in range(0, len(paths), CHUNK):
        for request, answer in reader.ask([Request(path) for path in paths[start : start + CHUNK]]).items():
            if isinstance(answer, OSError):
                raise answer
            if isinstance(answer, ImageHeader | UnreadableError):
                yield request.path, answer


class Parser:
    """The parser processes of a node.

    Parameters
    ----------
    spool : Spool
        Where the files lie.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._in_hand = InHand(spool)
        self._stopping = threading.Event()
        self._processes = [_Process(self._begin(number)) for number in range(1, PROCESSES + 1)]
        self._free = list(self._processes)
        self._given_back = threading.Condition()

    def warm_up(self) -> None:
        """Start a process, so that the first file need not wait for it, and a while later the others."""
        threading.Thread(target=self._start_all, name="start-parsers", daemon=True).start()

    def ask(self, requests: Sequence[Request], on_late: OnLate | None = None) -> dict[Request, Answer]:
        """Return what comes of requests.

        Parameters
        ----------
        requests : sequence of Request
            About files of the spool.
        on_late : callable, optional
            Is told, on another thread, what comes of those that take long and are left out; without it they are waited for.

        Raises
        ------
        ParserStoppedError
            The processes are stopped.
        NodeError
            No process can be started.
        """
        answers: dict[Request, Answer] = {}
        pending = deque(requests)
        while pending:
            process = self._take()
            late: Request | None = None
            try:
                late = self._work(process, pending, answers, HANG_S if on_late is None else PATIENCE_S)
                if late is not None and on_late is not None:
                    pending.remove(late)
                    arguments = (process, late, on_late)
                    threading.Thread(
                        target=self._see_through, args=arguments, name="late-file", daemon=True
                    ).start()
            finally:
                if late is None:
                    self._give_back(process)
        return answers

    def stop(self) -> None:
        """End the processes, whatever they are at."""
        with self._given_back:
            self._stopping.set()
            self._given_back.notify_all()
            while len(self._free) < PROCESSES:
                for process in self._processes:
                    process.signal()  # who uses it gives it back
                self._given_back.wait(STOP_WAIT_S)
            for process in self._processes:
                process.kill()

    def _begin(self, number: int) -> Begin:
        return Begin(
            key=self._spool.identity_key.hex(),
            root=str(self._spool.root),
            note=str(self._in_hand.note_path(number)),
            memory_mb=MEMORY_MB,
            processor_s=PROCESSOR_S,
        )

    def _take(self, *, cold: bool = False) -> _Process:
        """Wait for a process that nobody uses: the one that was given back last, or one that was never started."""
        with self._given_back:
            self._given_back.wait_for(lambda: self._free or self._stopping.is_set())
            if self._stopping.is_set():
                raise ParserStoppedError("the node stops")
            return self._free.pop(0 if cold else -1)

    def _give_back(self, process: _Process) -> None:
        with self._given_back:
            self._free.append(process)
            self._given_back.notify_all()

    def _start_all(self) -> None:
        for number in range(PROCESSES):
            if self._stopping.wait(number * START_PAUSE_S):
                return
            try:
                process = self._take(cold=number > 0)
            except ParserStoppedError:
                return
            try:
                process.start()
            except (OSError, _DiedError) as error:  # who asks for something is told
                LOGGER.warning("a parser process can't be started: %s", error)
            finally:
                self._give_back(process)

    def _see_through(self, process: _Process, request: Request, on_late: OnLate) -> None:
        """Wait for a request that takes long, then give its process back."""
        answers: dict[Request, Answer] = {}
        try:
            self._work(process, deque([request]), answers, HANG_S, is_sent=True)
        except ParserStoppedError:
            return
        except NodeError as error:
            answers[request] = OSError(None, str(error))
        finally:
            process.kill()  # it may have more to do that another has done meanwhile, and it may have grown
            self._give_back(process)
        on_late(request, answers[request])

    def _work(
        self,
        process: _Process,
        pending: deque[Request],
        answers: dict[Request, Answer],
        patience_s: float,
        *,
        is_sent: bool = False,
    ) -> Request | None:
        """Have a process answer what is pending; return the request that takes longer than `patience_s`, if one does.

        Parameters
        ----------
        is_sent : bool
            The process has the first of the requests in hand already.
        """
        starts = 0
        while pending:
            chunk = [pending[0]] if is_sent else list(itertools.islice(pending, CHUNK))
            if (reason := self._deadly(pending[0])) is not None:
                answers[pending.popleft()] = reason
                continue
            if self._stopping.is_set():
                raise ParserStoppedError("the node stops")
            try:
                if not is_sent:
                    process.send(chunk)
                for request in chunk:
                    answer = process.receive(patience_s)
                    if isinstance(answer, _Late):
                        if patience_s < HANG_S:
                            return request
                        process.kill()
                        answer = OSError(None, f"{request.path.name}: the disk does not answer")
                    answers[request] = answer
                    pending.popleft()
                    self._forget(request)
                    starts = 0
            except _DiedError as death:
                if self._stopping.is_set():
                    raise ParserStoppedError("the node stops") from None
                if not self._blame(process, pending[0], str(death)):
                    starts += 1
                if starts == STARTS:
                    raise NodeError(
                        f"no parser process can be started: {death}; the journal says more"
                    ) from None
            is_sent = False
            process.refresh()
        return None

    def _blame(self, process: _Process, request: Request, reason: str) -> bool:
        """Count a death over a request, if it was in hand; tell whether it was."""
        name = self._in_hand.take(Path(process.begin.note))
        if name != self._name(request):
            LOGGER.warning("a parser process ended with nothing in hand: %s", reason)
            return False
        deaths = self._in_hand.count(name, reason)
        LOGGER.warning("a parser process ended over %s (%d of %d): %s", name, deaths, DEATHS, reason)
        return True

    def _deadly(self, request: Request) -> DeadlyError | None:
        if not self._in_hand.has_deaths:
            return None
        reasons = self._in_hand.reasons(self._name(request))
        if len(reasons) < DEATHS:
            return None
        told = " and then ".join(dict.fromkeys(reasons))
        return DeadlyError(f"{request.path.name}: {len(reasons)} processes ended that had it in hand: {told}")

    def _forget(self, request: Request) -> None:
        if self._in_hand.has_deaths:
            self._in_hand.forget(self._name(request))

    def _name(self, request: Request) -> str:
        return self._in_hand.name_of(request.path)


class _DiedError(Exception):
    """The process has ended; the text says why."""


class _Late:
    """Sign that there is no answer yet."""


class _Process:
    """One parser process, started when it is first given something."""

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = 0
        self._rest = b""
        self._lines: deque[bytes] = deque()

    def start(self) -> None:
        """Start it, if it does not run."""
        if self._process is not None:
            return
        self._requests, self._rest = 0, b""
        self._lines.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node.intake.parser_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._write(encode_begin(self.begin))
        if isinstance(self._line(HANG_S), _Late):
            self.kill()
            raise _DiedError(f"it did not start in {HANG_S:g} s")

    def send(self, requests: list[Request]) -> None:
        """Give it requests."""
        self.start()
        self._requests += len(requests)
        self._write(encode_requests(requests))

    def receive(self, timeout_s: float) -> Answer | _Late:
        """Return its next answer, or a sign that there is none in time."""
        line = self._line(timeout_s)
        if isinstance(line, _Late):
            return line
        try:
            return decode_answer(line)
        except (ValueError, TypeError, KeyError, IndexError):
            self.kill()
            raise _DiedError("it answered what nobody understands") from None

    def _line(self, timeout_s: float) -> bytes | _Late:
        """Return the next line that it writes."""
        deadline = time.monotonic() + timeout_s
        while not self._lines:
            process = self._process
            if process is None or process.stdout is None:
                raise self._ended()
            poll = select.poll()  # unlike select(), for any descriptor
            poll.register(process.stdout, select.POLLIN)
            if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                return _Late()
            piece = os.read(process.stdout.fileno(), 1 << 16)
            if not piece:
                raise self._ended()
            *lines, self._rest = (self._rest + piece).split(b"\n")
            self._lines.extend(lines)
        return self._lines.popleft()

    def refresh(self) -> None:
        """End it between two files when it has done many, or has grown."""
        if self._process is None:
            return
        if self._requests >= REQUESTS or self._resident_mb() >= GROWN_MB:
            self.kill()

    def signal(self) -> None:
        """Have it end, while another thread may wait for it."""
        process = self._process
        if process is not None:
            process.kill()

    def kill(self) -> None:
        """End it at once; the next request starts another."""
        process = self._process
        if process is None:
            return
        process.kill()
        self._close()

    def _resident_mb(self) -> float:
        assert self._process is not None
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _write(self, line: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        try:
            write_all(self._process.stdin.fileno(), line)
        except OSError:
            raise self._ended() from None

    def _ended(self) -> _DiedError:
        status = self._close()
        if status == -signal.SIGXCPU:
            return _DiedError(f"it took more than {self.begin.processor_s} s of processor time")
        if status == OUT_OF_MEMORY:
            return _DiedError(f"it took more than {self.begin.memory_mb} MB of memory")
        return _DiedError(f"signal {-status}" if status < 0 else f"status {status}")

    def _close(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return -int(signal.SIGKILL)
        with process:
            return process.wait()
