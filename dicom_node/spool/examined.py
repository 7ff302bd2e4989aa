"""Files of ``examined/``: what the analysis of a series found, as far as a later comparison needs it.

Workers write and read them; the node names them and removes them with their series.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dicom_node.errors import SpoolError
from dicom_node.standard.uids import uid_key

FOLDER: Final = "examined"


def examined_name(series_uid: str, key: str) -> str:
    """Return the path, relative to the data folder, of what one analysis of a series found.

    Parameters
    ----------
    key : str
        Digest of its images, pipeline, weights and settings, as of the job that analyses them.
    """
    return f"{FOLDER}/{uid_key(series_uid)}.{key}.npz"


def forget_examined(root: Path, series_uid: str) -> None:
    """Remove what was kept of a series that is removed.

    Raises
    ------
    SpoolError
        It can't be removed.
    """
    for path in (root / FOLDER).glob(f"{uid_key(series_uid)}.*"):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise SpoolError(f"{path}: can't be removed: {error.strerror}") from error
