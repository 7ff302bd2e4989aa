"""Storage commitment towards others: finds the images asked about in the spool, and promises that they stay.

Nothing but the spool is asked, so that any process of the node can answer. The promise is written beside the
images before it is given; who removes series looks for it again after having moved one away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.errors import SpoolError
from dicom_node.spool.promises import promise
from dicom_node.spool.spool import Spool
from dicom_node.standard.commitment import (
    CLASS_INSTANCE_CONFLICT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    Reference,
    Report,
    Request,
)
from dicom_node.standard.uids import uid_key

FILING_S = 30.0
"""Time to be filed for images that are in the inbox when somebody asks."""
LOOK_S = 0.05
FOR_EVER = float("inf")


class CommitmentProvider:
    """Answers requests for commitment.

    Parameters
    ----------
    spool : Spool
        Where images lie.
    keep_s : float
        For how long a promise holds, from now; 0: for ever.
    """

    def __init__(
        self,
        spool: Spool,
        keep_s: float,
        *,
        clock: Callable[[], float] = time.time,
        filing_s: float = FILING_S,
    ) -> None:
        self._spool = spool
        self._keep_s = keep_s
        self._clock = clock
        self._filing_s = filing_s

    def commit(self, request: Request) -> Report:
        """Say which images are there, and promise that they stay.

        Those that were received and are not yet filed are waited for. Called from a thread that may wait.
        """
        self.wait_filed(request, self._filing_s)
        return self.commit_now(request)

    def commit_now(self, request: Request) -> Report:
        """Say which images are filed, and promise that they stay."""
        found = self._find(request.references)
        committed = []
        failed = {}
        promised: dict[Path, bool] = {}
        for reference in dict.fromkeys(request.references):
            reason = self._judge(reference, found.get(reference), promised)
            if reason:
                failed[reference] = reason
            else:
                committed.append(reference)
        return Report(request.transaction_uid, tuple(committed), failed)

    def wait_filed(self, request: Request, seconds: float) -> bool:
        """Wait until all images are filed, or nothing of what is in the inbox now is left; False: not in time."""
        wanted = set(request.references)
        inbox = {path.name for path in self._spool.waiting()}
        is_new = True
        deadline = time.monotonic() + seconds
        while inbox and not (is_new and len(self._find(wanted)) == len(wanted)):
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
            still = inbox & {path.name for path in self._spool.waiting()}
            inbox, is_new = still, still != inbox
        return True

    def _find(self, references: Iterable[Reference]) -> dict[Reference, Path]:
        wanted = {f"{uid_key(one.sop_instance_uid)}.dcm": one for one in references}
        found = {}
        for folder in self._spool.series.iterdir():
            try:
                names = {path.name for path in folder.iterdir()}
            except OSError:  # removed meanwhile, or no folder
                continue
            found.update({wanted[name]: folder / name for name in names & wanted.keys()})
        return found

    def _judge(self, reference: Reference, path: Path | None, promised: dict[Path, bool]) -> int:
        """Return why there is no commitment to an image; 0 when there is one."""
        if path is None:
            return NO_SUCH_INSTANCE
        try:
            sop_class_uid = str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
        except FileNotFoundError:
            return NO_SUCH_INSTANCE
        except (OSError, InvalidDicomError, ValueError):
            return PROCESSING_FAILURE
        if sop_class_uid != reference.sop_class_uid:
            return CLASS_INSTANCE_CONFLICT
        if path.parent not in promised:
            try:
                promise(path.parent, self._clock() + self._keep_s if self._keep_s else FOR_EVER)
                promised[path.parent] = True
            except SpoolError:
                promised[path.parent] = False
        if not path.exists():  # removed in the moment before the promise
            return NO_SUCH_INSTANCE
        return 0 if promised[path.parent] else PROCESSING_FAILURE
