"""Header of a received file, with every fault that strangers' bytes can cause turned into one of ours."""

from __future__ import annotations

import errno
from pathlib import Path

from dicom_node.errors import NodeError, UnreadableError
from dicom_node.series.headers import ImageHeader, read_header


def read_received(path: Path, key: bytes) -> ImageHeader | UnreadableError | None:
    """Return what a received file says, or why it can't be filed; None when it is no longer there.

    `key` is that of the digests in the header's identity.
    """
    try:
        return _header(path, key)
    except UnreadableError as error:
        return error
    except FileNotFoundError:
        return None


def _header(path: Path, key: bytes) -> ImageHeader:
    try:
        return read_header(path, key=key)
    except UnreadableError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in (None, errno.EIO):
            raise cause from None  # too many open files and the like: the image is sound
        raise
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        # A damaged sector stays damaged: waiting for it would hold up every other file.
        raise UnreadableError(f"{path.name}: the disk can't read it") from error
    except (NodeError, MemoryError):
        raise
    # Bytes from the network: whatever they do to the parser, their sender was told that they are kept.
    except Exception as error:
        raise UnreadableError(f"{path.name}: not readable as DICOM ({type(error).__name__})") from error
