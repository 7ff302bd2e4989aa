"""The File Meta Information that the node puts before the bytes it received.

References
----------
DICOM PS3.10 7.1, PS3.5 7.1.2 (explicit VR)
"""

from __future__ import annotations

import struct

from dicom_node import __version__
from dicom_node.standard.contexts import IMPLEMENTATION_CLASS_UID

PREAMBLE = b"\0" * 128 + b"DICM"
VERSION_NAME = f"DICOM_NODE_{__version__}"[:16]

_SHORT = struct.Struct("<HH2sH")  # group, element, VR, length
_LONG = struct.Struct("<HH2sHL")  # group, element, VR, reserved, length


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
    elements = _LONG.pack(2, 0x0001, b"OB", 0, 2) + b"\x00\x01"
    for element, vr, value in (
        (0x0002, b"UI", sop_class_uid),
        (0x0003, b"UI", sop_instance_uid),
        (0x0010, b"UI", transfer_syntax_uid),
        (0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        (0x0013, b"SH", VERSION_NAME),
        (0x0016, b"AE", calling_ae),
    ):
        encoded = value.encode("utf-8", "surrogateescape")
        if len(encoded) % 2:
            encoded += b"\0" if vr == b"UI" else b" "
        elements += _SHORT.pack(2, element, vr, len(encoded)) + encoded
    length = _SHORT.pack(2, 0, b"UL", 4) + struct.pack("<L", len(elements))
    return PREAMBLE + length + elements
