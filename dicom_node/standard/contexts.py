"""Abstract and transfer syntaxes: what a store-and-forward node takes from a PACS, and in which encodings.

References
----------
DICOM PS3.4 B.5 (storage SOP classes), PS3.5 section 10 and annex A (transfer syntaxes), PS3.6 annex A
(registry).
"""

from __future__ import annotations

from typing import Final

from pydicom.uid import UID, UID_dictionary  # type: ignore[attr-defined]

VERIFICATION: Final = UID("1.2.840.10008.1.1")
"""C-ECHO."""

IMPLEMENTATION_CLASS_UID: Final = UID("2.25.247774949784546994006849466776087956270")
"""Names this software in association negotiation and in File Meta Information (PS3.7 D.3.3.2)."""

DICOM_ROOT: Final = "1.2.840.10008."
STORAGE_ROOT: Final = "1.2.840.10008.5.1.4.1.1."

_NOT_COMPOSITE: Final = frozenset(
    {
        "MediaStorageDirectoryStorage",
        "HangingProtocolStorage",
        "ColorPaletteStorage",
        "GenericImplantTemplateStorage",
        "ImplantAssemblyTemplateStorage",
        "ImplantTemplateGroupStorage",
        "CTDefinedProcedureProtocolStorage",
        "XADefinedProcedureProtocolStorage",
        "ProtocolApprovalStorage",
        "InventoryStorage",
    }
)
"""Objects without a patient, a study and a series (PS3.4 annex GG), which the node could not file."""


def _storage_classes() -> tuple[UID, ...]:
    return tuple(
        UID(uid)
        for uid, (name, kind, _, _, keyword) in UID_dictionary.items()
        if kind == "SOP Class"
        and "Storage" in name
        and "Commitment" not in name
        and keyword not in _NOT_COMPOSITE
    )


STORAGE_CLASSES: Final[tuple[UID, ...]] = _storage_classes()
"""Every storage SOP class that the registry knows, retired ones too: archives still hold them."""

TRANSFER_SYNTAXES: Final[tuple[UID, ...]] = tuple(
    UID(uid)
    for uid in (
        "1.2.840.10008.1.2.1",  # explicit VR little endian
        "1.2.840.10008.1.2",  # implicit VR little endian
        "1.2.840.10008.1.2.2",  # explicit VR big endian
        "1.2.840.10008.1.2.1.99",  # deflated
        "1.2.840.10008.1.2.4.90",  # JPEG 2000, lossless
        "1.2.840.10008.1.2.4.80",  # JPEG-LS, lossless
        "1.2.840.10008.1.2.4.70",  # JPEG lossless, selection value 1
        "1.2.840.10008.1.2.4.57",  # JPEG lossless
        "1.2.840.10008.1.2.5",  # RLE
        "1.2.840.10008.1.2.4.201",  # high-throughput JPEG 2000, lossless
        "1.2.840.10008.1.2.4.202",  # high-throughput JPEG 2000 RPCL, lossless
        "1.2.840.10008.1.2.1.98",  # encapsulated uncompressed
        "1.2.840.10008.1.2.4.92",  # JPEG 2000 part 2, lossless
        "1.2.840.10008.1.2.4.91",  # JPEG 2000
        "1.2.840.10008.1.2.4.203",  # high-throughput JPEG 2000
        "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
        "1.2.840.10008.1.2.4.93",  # JPEG 2000 part 2
        "1.2.840.10008.1.2.4.51",  # JPEG extended, 12 bits
        "1.2.840.10008.1.2.4.50",  # JPEG baseline, 8 bits
        "1.2.840.10008.1.2.4.100",  # MPEG-2 main level
        "1.2.840.10008.1.2.4.100.1",
        "1.2.840.10008.1.2.4.101",  # MPEG-2 high level
        "1.2.840.10008.1.2.4.101.1",
        "1.2.840.10008.1.2.4.102",  # MPEG-4 4.1
        "1.2.840.10008.1.2.4.102.1",
        "1.2.840.10008.1.2.4.103",  # MPEG-4 4.1, Blu-ray compatible
        "1.2.840.10008.1.2.4.103.1",
        "1.2.840.10008.1.2.4.104",  # MPEG-4 4.2, 2D
        "1.2.840.10008.1.2.4.104.1",
        "1.2.840.10008.1.2.4.105",  # MPEG-4 4.2, 3D
        "1.2.840.10008.1.2.4.105.1",
        "1.2.840.10008.1.2.4.106",  # MPEG-4 4.2, stereo
        "1.2.840.10008.1.2.4.106.1",
        "1.2.840.10008.1.2.4.107",  # HEVC main
        "1.2.840.10008.1.2.4.108",  # HEVC main 10
    )
)
"""Encodings that the node takes, the one that it likes best first.

Uncompressed ones lead, since a caller that offers several in one context may have no encoder for the others;
then what loses nothing, then the rest. Those whose pixels are elsewhere (JPIP, SMPTE streams) are left out.
"""


def is_storage_class(uid: str) -> bool:
    """Tell whether an abstract syntax is to be taken as storage.

    Registered storage classes are; so are private classes (a scanner's raw data, which a PACS forwards with
    the images: refusing the context makes the whole forwarding job fail) and classes below the storage root
    that are newer than our registry.
    """
    if uid in _KNOWN_STORAGE:
        return True
    if not uid.startswith(DICOM_ROOT):
        return True
    return uid.startswith(STORAGE_ROOT) and uid not in UID_dictionary


_KNOWN_STORAGE: Final = frozenset(str(uid) for uid in STORAGE_CLASSES)
