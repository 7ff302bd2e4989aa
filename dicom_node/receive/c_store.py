"""C-STORE: the data sets of one association, written to the disk while they come in."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from dicom_node.errors import SpoolError
from dicom_node.receive import dimse
from dicom_node.receive.association import Association
from dicom_node.receive.dimse import StoreRequest
from dicom_node.receive.events import ImageRefused, ImageStored, Tell
from dicom_node.receive.file_meta import encode_file_meta
from dicom_node.spool.spool import Spool, SpoolFullError
from dicom_node.standard.status import (
    CANNOT_UNDERSTAND,
    OUT_OF_RESOURCES,
    SOP_CLASS_NOT_SUPPORTED,
    STORE_FAILED,
    SUCCESS,
)

LOGGER = logging.getLogger(__name__)


class CStoreProvider:
    """Takes an association's objects (:class:`dicom_node.receive.messages.StoreHandler`), on its thread.

    Parameters
    ----------
    association : Association
        Whose objects.
    spool : Spool
        Where they go.
    contexts : mapping of int to str
        Transfer syntax of each accepted storage context.
    max_object : int
        Bytes that a data set may have.
    tell : callable
        Told of each image that is stored or refused.
    """

    def __init__(
        self,
        association: Association,
        spool: Spool,
        contexts: Mapping[int, str],
        max_object: int,
        tell: Tell,
    ) -> None:
        self._association = association
        self._spool = spool
        self._contexts = contexts
        self._max_object = max_object
        self._tell = tell
        self._writer = spool.inbox_writer(association.id)
        self._request: StoreRequest | None = None
        self._refusal: tuple[int, str] | None = None
        self._comment = ""
        self._length = 0
        self._images = 0

    def begin(self, request: StoreRequest) -> None:
        """Open the file that the object goes to, or note why it is refused."""
        self._request, self._refusal, self._comment, self._length = request, None, "", 0
        syntax = self._contexts.get(request.context_id)
        if syntax is None:
            self._refuse(SOP_CLASS_NOT_SUPPORTED, "a C-STORE in a context that is not for storage")
            return
        head = encode_file_meta(
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            transfer_syntax_uid=syntax,
            calling_ae=self._association.calling_ae,
        )
        try:
            if not self._spool.has_room():
                self._refuse(OUT_OF_RESOURCES, f"the disk is over {self._spool.high_water:.0%} full")
                return
            self._writer.begin(head)
        except SpoolError as error:
            self._fail(error)

    def write(self, fragment: memoryview) -> None:
        """Write a fragment; one of an object that is refused already goes nowhere."""
        self._length += len(fragment)
        if self._refusal is not None:
            return
        if self._length > self._max_object:
            self._writer.cancel()
            self._refuse(
                OUT_OF_RESOURCES,
                f"an object of more than the {self._max_object / 1e6:g} MB of [accept] max_object_mb",
            )
            return
        try:
            self._writer.write(fragment)
        except SpoolError as error:
            self._fail(error)

    def finish(self) -> bytes:
        """Have the object on the disk, and return the answer: the promise or the reason."""
        request = self._request
        assert request is not None, "begin() comes first"
        if self._refusal is None and not self._length:
            self._writer.cancel()
            self._refuse(CANNOT_UNDERSTAND, "a C-STORE without a data set")
        if self._refusal is None:
            try:
                path = self._writer.finish()
            except SpoolError as error:
                self._fail(error)
        if self._refusal is not None:
            status, reason = self._refusal
            self._tell(ImageRefused(self._association, status, reason))
            return dimse.store_response(request, status, self._comment)
        self._images += 1
        self._tell(ImageStored(self._association, path))
        return dimse.store_response(request, SUCCESS)

    def close(self) -> int:
        """Remove what is not complete, and return how many images were stored.

        A disk that takes no change any more, not even a removal, leaves that to the node's next start.
        """
        try:
            self._writer.close()
        except OSError as error:
            LOGGER.warning(
                "association %s: files that are not complete stay in the inbox: %s",
                self._association.id,
                error.strerror,
            )
        return self._images

    def _refuse(self, status: int, reason: str) -> None:
        """Note a reason that the caller may read."""
        self._refusal, self._comment = (status, reason), reason

    def _fail(self, error: SpoolError) -> None:
        """Note an error of ours, whose paths are none of the caller's business."""
        is_full = isinstance(error, SpoolFullError)
        self._refusal = (OUT_OF_RESOURCES if is_full else STORE_FAILED), str(error)
        self._comment = "no space is left" if is_full else "it can't be written"
