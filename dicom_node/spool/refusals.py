"""Messages that a worker could not read, as files: ``refused/<job>.run<N>.json``, one for each run, until the node takes them.

The run is not claimed by it, so that a worker that can read the message may still do it.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from dicom_node.errors import SpoolError
from dicom_node.spool.run_folder import run_path

log = logging.getLogger(__name__)

Line = Annotated[str, Field(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Text of another process that goes into the worklog."""


@dataclass(frozen=True)
class Refusal:
    """One worker's note on the message of one run.

    Parameters
    ----------
    run : str
        Name of the run, ``<job>.run<N>``.
    worker : str
        Host and process.
    program : str
        Version of the program that the worker is.
    reads : int
        Version of the messages that it reads.
    reason : str
        What it found wrong.
    """

    run: str
    worker: Line
    program: Line
    reads: int
    reason: Line


def refuse(folder: Path, refusal: Refusal) -> None:
    """Leave a refusal for the node in its folder ``refused``, in place of an earlier one of the same run.

    Raises
    ------
    SpoolError
        It can't be written, or the name is not that of a run.
    """
    path = run_path(folder, refusal.run).with_name(f"{refusal.run}.json")
    part = path.with_name(f"{refusal.run}.{secrets.token_hex(4)}.part")  # two workers may refuse one run
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        # Not synchronised: what a power cut takes is written again when the message comes again.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(_form().dump_json(refusal))
        part.replace(path)
    except OSError as error:
        raise SpoolError(f"{path}: {error.strerror}") from error


def take_refusals(folder: Path) -> list[Refusal]:
    """Return the refusals that lie in a folder and remove them; what can't be read is removed and passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            data = path.read_bytes()
            path.unlink()
            refusal = _form().validate_json(data, strict=True)
            run_path(folder, refusal.run)
            found.append(refusal)
        except FileNotFoundError:
            continue
        except (OSError, ValidationError, SpoolError) as error:
            log.warning("%s: %s", path, type(error).__name__)
    return found


@cache
def _form() -> TypeAdapter[Refusal]:
    return TypeAdapter(Refusal)
