"""Receipts: the fate of each object at a destination, as a file beside the objects; the database can be rebuilt from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import sync_folder

FOLDER = "delivered"


@dataclass(frozen=True)
class Receipt:
    """One change of state of one object at one destination, at seconds of the epoch; the last one holds."""

    sop_instance_uid: str
    state: str
    at: float
    reason: str = ""


def append_receipts(results: Path, destination: str, receipts: Iterable[Receipt]) -> None:
    """Add lines to ``delivered/<destination>.jsonl`` and synchronise them to the disk.

    Raises
    ------
    SpoolError
        They can't be written.
    """
    data = "".join(json.dumps(asdict(receipt)) + "\n" for receipt in receipts).encode()
    path = results / FOLDER / f"{destination}.jsonl"
    try:
        fresh = not path.exists()
        path.parent.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # the last writer was cut off in its line
                data = b"\n" + data
            if os.write(descriptor, data) < len(data):
                raise OSError(28, "no room for the whole line")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fresh:
            sync_folder(path.parent)
            sync_folder(results)
    except OSError as error:
        raise SpoolError(f"{path}: the receipt can't be written: {error.strerror}") from error


def read_receipts(results: Path, destination: str) -> dict[str, Receipt]:
    """Return the last receipt of each object, by SOP Instance UID; cut-off lines are passed over."""
    try:
        lines = (
            (results / FOLDER / f"{destination}.jsonl")
            .read_text(encoding="utf-8", errors="replace")
            .splitlines()
        )
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SpoolError(f"{results}: its receipts can't be read: {error.strerror}") from error
    found: dict[str, Receipt] = {}
    for line in lines:
        try:
            receipt = Receipt(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[receipt.sop_instance_uid] = receipt
    return found
