"""The File Meta Information that the node puts before the bytes it received.

References
----------
DICOM PS3.10 7.1
"""

from __future__ import annotations

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info

from dicom_node import __version__
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID

PREAMBLE = b"\0" * 128 + b"DICM"


def encode_file_meta(
    *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae: str
) -> bytes:
    """Return preamble, prefix and File Meta group for an object as it came over the network.

    The UIDs are written as they were received, well formed or not: the file is judged later, and until then
    it must say what the caller said.

    Parameters
    ----------
    sop_class_uid, sop_instance_uid : str
        Affected SOP Class and Instance UID of the C-STORE request.
    transfer_syntax_uid : str
        That of the accepted presentation context.
    calling_ae : str
        Becomes Source Application Entity Title (0002,0016).
    """
    meta = FileMetaDataset()
    for tag, vr, value in (
        (0x00020001, "OB", b"\x00\x01"),
        (0x00020002, "UI", sop_class_uid),
        (0x00020003, "UI", sop_instance_uid),
        (0x00020010, "UI", transfer_syntax_uid),
        (0x00020012, "UI", IMPLEMENTATION_CLASS_UID),
        (0x00020013, "SH", f"DICOM_NODE_{__version__}"[:16]),
        (0x00020016, "AE", calling_ae),
    ):
        meta.add(DataElement(tag, vr, value, validation_mode=IGNORE))
    buffer = DicomBytesIO()
    buffer.write(PREAMBLE)
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return buffer.getvalue()
