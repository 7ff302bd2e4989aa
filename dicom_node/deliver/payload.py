"""Files that are to be sent: what they are, and the presentation contexts that they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from dicom_node.errors import UnreadableError

MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: odd IDs from 1 to 255


@dataclass(frozen=True)
class Payload:
    """One file with what its head says of it."""

    path: Path
    sop_class_uid: UID
    sop_instance_uid: UID
    transfer_syntax_uid: UID
    consistent: bool = True  # its File Meta Information names the same object as the data set

    @property
    def transcodable(self) -> bool:
        """True when there is another uncompressed encoding, in which the data set says exactly the same."""
        return self.transfer_syntax_uid in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

    @property
    def syntaxes(self) -> tuple[UID, ...]:
        """Transfer syntaxes that it can be sent in, its own first."""
        others = (ExplicitVRLittleEndian, ImplicitVRLittleEndian) if self.transcodable else ()
        return (self.transfer_syntax_uid, *(uid for uid in others if uid != self.transfer_syntax_uid))


def inspect(path: Path) -> Payload:
    """Read what the head of a file says.

    Raises
    ------
    UnreadableError
        It can't be read, is no DICOM file, or lacks a UID.
    """
    try:
        ds = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID"], stop_before_pixels=True)
        meta = ds.file_meta
        named = meta.get("MediaStorageSOPClassUID"), meta.get("MediaStorageSOPInstanceUID")
        payload = Payload(
            path=path,
            sop_class_uid=ds.SOPClassUID,
            sop_instance_uid=ds.SOPInstanceUID,
            transfer_syntax_uid=meta.TransferSyntaxUID,
            consistent=named == (ds.SOPClassUID, ds.SOPInstanceUID),
        )
    except InvalidDicomError as error:
        raise UnreadableError(f"{path}: not a DICOM file") from error
    except (AttributeError, ValueError, EOFError, NotImplementedError) as error:
        raise UnreadableError(f"{path}: its header can't be decoded, or lacks a UID") from error
    except OSError as error:
        raise UnreadableError(f"{path}: can't be read: {error.strerror or error}") from error
    if not (payload.sop_class_uid and payload.sop_instance_uid and payload.transfer_syntax_uid):
        raise UnreadableError(f"{path}: no SOP class, SOP instance or transfer syntax in it")
    return payload


def batches(payloads: Sequence[Payload]) -> Iterator[tuple[list[Payload], list[PresentationContext]]]:
    """Cut a list of files into what one association can carry, each with its presentation contexts.

    Each transfer syntax has a context of its own (as in DCMTK's storescu): in a common one the peer would
    choose the one that it prefers, and objects would be transcoded without need.
    """
    batch: list[Payload] = []
    keys: dict[tuple[UID, UID], None] = {}
    for payload in payloads:
        needed = {(payload.sop_class_uid, syntax): None for syntax in payload.syntaxes}
        if batch and len(keys | needed) > MAX_CONTEXTS:
            yield batch, [build_context(*key) for key in keys]
            batch, keys = [], {}
        batch.append(payload)
        keys |= needed
    if batch:
        yield batch, [build_context(*key) for key in keys]
