"""Promises that images stay, since somebody was told so: a file beside them, ``kept-until``.

References
----------
DICOM PS3.4 J.3.1 (storage commitment)
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import write_durably

NAME = "kept-until"


def promised_until(folder: Path) -> float:
    """Return the UTC seconds until which a series' folder must stay; 0 when nothing was promised of it.

    Raises
    ------
    SpoolError
        There is a promise that can't be read.
    """
    try:
        return float((folder / NAME).read_text())
    except FileNotFoundError:
        return 0.0
    except (OSError, ValueError) as error:
        raise SpoolError(f"{folder / NAME}: can't be read: {error}") from error


def promise(folder: Path, until: float) -> None:
    """Have a series' folder stay until then, or longer when that was promised before; durable at the return.

    Raises
    ------
    SpoolError
        It can't be written down.
    """
    with contextlib.suppress(SpoolError):  # what can't be read is written anew
        if promised_until(folder) >= until:
            return
    write_durably(folder / NAME, repr(until))
