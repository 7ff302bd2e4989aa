"""A parser process: reads headers, and compares copies, of what strangers sent, so that the node itself need not.

It has limits of its own on memory and on processor time for each file; a file that breaks them, or breaks it, costs the
node nothing. Run by :mod:`dicom_node.intake.parser` as ``python -m dicom_node.intake.parser_process``. It ends when its
input does.

On its input: a line with a `Begin`, then lines with lists of requests. On its output: a line when it is ready, then one for
each request, in order. All are JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dicom_node.errors import UnreadableError
from dicom_node.intake.duplicates import same_content
from dicom_node.intake.received_file import read_received
from dicom_node.series.headers import ImageHeader
from dicom_node.series.process_limits import OUT_OF_MEMORY, limit_memory, limit_processor_time
from dicom_node.spool.in_hand import Note, name_of

READY = b"[]\n"


@dataclass(frozen=True)
class Begin:
    """First message to a parser process.

    Parameters
    ----------
    key : str
        Of the digests of patients, as hex digits.
    root : str
        Data folder, to which the names in its note are relative.
    note : str
        Where it notes the file that it has in hand.
    memory_mb : int
        Memory that it may take beyond what it has at its start.
    processor_s : int
        Processor time that each file may take.
    """

    key: str
    root: str
    note: str
    memory_mb: int
    processor_s: int


@dataclass(frozen=True)
class Request:
    """Question about a received file: what its header says or, with `first`, whether it is a copy of that one."""

    path: Path
    first: Path | None = None


Answer = ImageHeader | bool | UnreadableError | OSError | None
"""What comes of a request: the header; whether it is a copy; why it can't be read or compared; that the disk or the system
refuses for now; None: it is no longer there."""


def answer_of(request: Request, key: bytes) -> Answer:
    """Return what comes of a request.

    Raises
    ------
    MemoryError
        It takes more memory than there is.
    """
    try:
        if request.first is None:
            return read_received(request.path, key)
        return same_content(request.first, request.path)
    except (UnreadableError, OSError) as error:
        return error


def encode_answer(answer: Answer) -> bytes:
    """Return an answer as a line."""
    line: list[Any]
    match answer:
        case ImageHeader():
            line = ["header", answer.to_json()]
        case bool():
            line = ["same", answer]
        case UnreadableError():
            line = ["unreadable", str(answer)]
        case OSError():
            line = ["refused", answer.errno, answer.strerror, answer.filename]
        case None:
            line = ["gone"]
    return json.dumps(line).encode() + b"\n"


def decode_answer(line: bytes) -> Answer:
    """Return the answer that a line holds.

    Raises
    ------
    ValueError, TypeError, KeyError, IndexError
        It holds none.
    """
    kind, *values = json.loads(line)
    match kind:
        case "header":
            return ImageHeader.from_json(values[0])
        case "same":
            return bool(values[0])
        case "unreadable":
            return UnreadableError(values[0])
        case "refused":
            return OSError(*values)
        case "gone":
            return None
    raise ValueError(f"no answer: {kind}")


def encode_requests(requests: list[Request]) -> bytes:
    """Return requests as a line."""
    plain = [[str(one.path), None if one.first is None else str(one.first)] for one in requests]
    return json.dumps(plain).encode() + b"\n"


def encode_begin(begin: Begin) -> bytes:
    """Return the first message as a line."""
    return json.dumps(asdict(begin)).encode() + b"\n"


def main() -> None:
    """Answer until the input ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to the whole group; the node says what to do
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    begin = Begin(**json.loads(sys.stdin.buffer.readline()))
    limit_memory(begin.memory_mb)
    note = Note(Path(begin.note))
    with contextlib.suppress(BrokenPipeError):  # the node is gone
        answers.write(READY)
        answers.flush()
        for line in sys.stdin.buffer:
            for path, first in json.loads(line):
                note.write(name_of(path, begin.root))
                _answer(Request(Path(path), None if first is None else Path(first)), begin, answers)
            note.clear()
    os._exit(0)


def _answer(request: Request, begin: Begin, answers: BinaryIO) -> None:
    limit_processor_time(begin.processor_s)
    try:
        line = encode_answer(answer_of(request, bytes.fromhex(begin.key)))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    answers.write(line)
    answers.flush()


if __name__ == "__main__":
    main()
